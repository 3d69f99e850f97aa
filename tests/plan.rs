//! `prospect plan`, for models whose weights are not needed.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{MODEL, Place, repository};

fn plan(args: &str) -> crate::support::Run {
    Place::new().run(&format!("plan {} {args}", repository("models/llama-30b.yaml").display()))
}

#[test]
fn thirty_billion_weights_fit_onto_one_gpu() {
    let table = plan("--gpu 80GiB");
    assert_eq!(table.code, Some(0), "{table}");
    for text in ["weights in 60 blocks", "60.6 GiB", "q8_0", "q4_k", "train.micro_batch_size="] {
        assert!(table.stdout.contains(text), "{text}: {table}");
    }
    let json: Value = serde_json::from_str(&plan("--gpu 141GiB --json").stdout).unwrap();
    let first = &json["ways"][0];
    // There is room for unquantized weights.
    assert_eq!(first["quantization"], Value::Null);
    let parts = ["frozen", "trained", "gradients", "moments", "master_weights", "activations", "workspace"];
    let total: u64 = parts.iter().map(|part| first["demand"][part].as_u64().unwrap()).sum();
    assert!(total + json["overhead"].as_u64().unwrap() <= 141 << 30);
}

#[test]
fn a_model_that_does_not_fit_is_an_error_that_says_what_to_do() {
    let small = plan("--gpu 16GiB");
    assert_eq!(small.code, Some(1), "{small}");
    assert!(
        small.stderr.contains("no training plan for") && small.stderr.contains("the smallest needs"),
        "{small}"
    );
    let place = Place::new();
    place.write("model.yaml", MODEL);
    let here = place.run("plan model.yaml --objective dpo");
    assert_eq!(here.code, Some(0), "{here}");
    assert!(here.stdout.contains("all are trained"), "{here}");
    let amount = place.run("plan model.yaml --gpu 80");
    assert_eq!(amount.code, Some(2), "{amount}");
    assert!(amount.stderr.contains("write it like 8GiB"), "{amount}");
    let objective = place.run("plan model.yaml --objective kot");
    assert!(objective.stderr.contains("kto"), "{objective}");
}

#[test]
fn several_gpus_fit_a_model_that_one_does_not() {
    let table = |model: &str| {
        let run = Place::new().run(&format!("plan {} --gpu 24GiB --gpus 4", repository(model).display()));
        assert_eq!(run.code, Some(0), "{run}");
        let models = format!("{}/", repository("models").display());
        let (memory, price) = run.stdout.split_once("\n\n== Price (example prices").unwrap();
        assert!(price.contains("USD  fits one\n") && price.contains("24 GiB card"), "{run}");
        memory.replace(&models, "")
    };
    assert_snapshot!(table("models/llama-30b.yaml"), @r"
    Memory of llama-30b.yaml
    32 528 943 616 weights in 60 blocks; a LoRA adapter of rank 16 with 121 896 960 is trained
    kto, 32 completions per step, sequences of up to 512 tokens, 256 of them for the prompt
    4 GPUs, each with 24.0 GiB, 3.00 GiB of it reserved for other uses
    Settings: --ranks 4 --shard --set model.activations=null --set model.memory=21504MiB --set train.micro_batch_size=1

    == Plans with the frozen weights sharded across GPUs (--ranks 4 --shard)
      frozen weights  micro-batch  blocks recomputed    frozen  trained  gradients  moments  master weights  activations  workspace     total
      bf16                      1  53 of 60           15.7 GiB  465 MiB    465 MiB  930 MiB        0.00 KiB      889 MiB   2.56 GiB  21.0 GiB
      q8_0                      8  54 of 60           8.74 GiB  465 MiB   0.00 KiB  930 MiB        0.00 KiB     6.23 GiB   4.56 GiB  20.9 GiB
      q4_k                      8  46 of 60           5.00 GiB  465 MiB   0.00 KiB  930 MiB        0.00 KiB     10.5 GiB   4.06 GiB  20.9 GiB
    Embedding, head and norms are replicated on each GPU. Every pass through the blocks gathers the other shards, 44.8 GiB for the first plan, a block ahead. A micro-batch takes one forward and one backward pass, and one more forward pass unless it is the last of its rank.

    == Plans with all weights on each GPU (--ranks 4)
    None fits: the smallest needs 24.0 GiB on each GPU.
    The workspace is the peak of temporary tensors in a step. Sequences are assumed to have the maximum length, so real batches take less.
    ");
    assert_snapshot!(table("models/llama-3.1-70b.yaml"), @r"
    Memory of llama-3.1-70b.yaml
    70 553 706 496 weights in 80 blocks; a LoRA adapter of rank 16 with 207 093 760 is trained
    kto, 32 completions per step, sequences of up to 512 tokens, 256 of them for the prompt
    4 GPUs, each with 24.0 GiB, 3.00 GiB of it reserved for other uses
    Settings: --ranks 4 --shard --set model.quantization=q4_k --set model.activations=null --set model.memory=21504MiB --set train.micro_batch_size=2

    == Plans with the frozen weights sharded across GPUs (--ranks 4 --shard)
      frozen weights  micro-batch  blocks recomputed    frozen  trained  gradients   moments  master weights  activations  workspace     total
      q4_k                      2  78 of 80           12.9 GiB  790 MiB    790 MiB  1.54 GiB        0.00 KiB     1.58 GiB   3.36 GiB  20.9 GiB
    Embedding, head and norms are replicated on each GPU. Every pass through the blocks gathers the other shards, 26.9 GiB for the first plan, a block ahead. A micro-batch takes one forward and one backward pass, and one more forward pass unless it is the last of its rank.

    == Plans with all weights on each GPU (--ranks 4)
    None fits: the smallest needs 48.5 GiB on each GPU.
    The workspace is the peak of temporary tensors in a step. Sequences are assumed to have the maximum length, so real batches take less.
    ");
    let small = plan("--gpu 8GiB --gpus 2");
    assert!(small.code == Some(1) && small.stderr.contains("2 GPUs with 8.00 GiB"), "{small}");
    assert_eq!(plan("--gpus 2").code, Some(2));
}

#[test]
fn full_training_takes_the_least_sharding_that_fits() {
    for (model, gpus, stage, option) in [("llama-7b", 8, 2, "--shard"), ("llama-30b", 16, 3, "--shard=3")] {
        let path = repository(&format!("models/{model}.yaml"));
        let full = "--set train=full --set lora=null";
        let run = Place::new().run(&format!("plan {} {full} --gpus {gpus} --gpu 80GiB", path.display()));
        assert_eq!(run.code, Some(0), "{run}");
        for text in [
            format!("The least sharding that fits is ZeRO stage {stage}\n"),
            format!("Settings: --ranks {gpus} {option} --set"),
            format!("reference model sharded across GPUs (--ranks {gpus} --shard=3)"),
            format!("optimizer state and reference model sharded across GPUs (--ranks {gpus} --shard)"),
            "None fits: the smallest needs".to_owned(),
        ] {
            assert!(run.stdout.contains(&text), "{text}: {run}");
        }
    }
}
