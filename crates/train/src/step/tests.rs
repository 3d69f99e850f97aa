//! Steps that run out of memory.

use std::{cell::Cell, ops::ControlFlow};

use candle_core::Device;
use prospect_dist::{Collective, SingleProcess, on_threads};
use prospect_model::{
    Activations, Architecture, ChatTemplate, Decoder, LoraConfig, Model, PackedBatch, Tokenizer, Train,
};
use prospect_runs::MetricsRecord;

use crate::{
    Encoder, Observer, Policy, ReferenceCache, StopReason, TrainContext, TrainError, TrainingSet, benchmark,
    train,
};

/// An error as the CUDA driver's: candle keeps it as an opaque error.
#[derive(Debug, thiserror::Error)]
#[error("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")")]
struct OutOfMemory;

pub(crate) fn out_of_memory() -> candle_core::Error {
    candle_core::Error::Cuda(Box::new(OutOfMemory)).bt()
}

thread_local! {
    /// Bytes of the pretended device, for activations of 1 byte a row and saved block.
    static LIMIT: Cell<Option<usize>> = const { Cell::new(None) };
}

const LAYERS: usize = 4;

/// Fails if the activations of a pass exceed the limit of this thread. Passes without activations
/// take one block's.
pub(super) fn allocate(packed: &PackedBatch, activations: Option<Activations>) -> Result<(), TrainError> {
    let blocks = match activations {
        None | Some(Activations::Recompute | Activations::Within(_)) => 1,
        Some(Activations::Keep) => LAYERS,
        Some(Activations::RecomputeFirst(first)) => LAYERS - first,
    };
    match LIMIT.get() {
        Some(limit) if packed.rows() * blocks > limit => Err(out_of_memory().into()),
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Records(Vec<MetricsRecord>);

impl Observer for Records {
    fn on_step_end(
        &mut self,
        _: u64,
        _: u64,
        _: &Policy<'_>,
        _: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        Ok(ControlFlow::Continue(()))
    }

    fn on_log(&mut self, record: MetricsRecord) -> Result<(), TrainError> {
        self.0.push(record);
        Ok(())
    }
}

/// Trains three steps of eight completions on a device with a limit.
fn run(group: &dyn Collective, kind: Train, limit: Option<usize>) -> Result<Vec<MetricsRecord>, TrainError> {
    LIMIT.set(limit);
    let architecture: Architecture = serde_json::from_str(
        r#"{"vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 128}"#,
    )
    .unwrap();
    let settings = benchmark::settings("kto", 8, 64, 2).unwrap();
    let (tokenizer, name) = (Tokenizer::bytes().unwrap(), "random".to_owned());
    let model = Model {
        template: ChatTemplate::chatml(&tokenizer).unwrap(),
        decoder: Decoder::random(architecture, 0).unwrap(),
        tokenizer,
        fingerprint: name.clone(),
        text_fingerprint: name.clone(),
        name,
    };
    assert!(matches!(model.decoder.device(), Device::Cpu));
    let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
    let examples: TrainingSet = benchmark::generate_examples(&settings, &encoder, 24).unwrap();
    let context = TrainContext {
        model: &model,
        train: kind,
        activations: Activations::Keep,
        settings: &settings,
        examples: &examples,
        encoder: &encoder,
        seed: 1,
        checkpoints: None,
        zero: None,
        group,
    };
    let mut records = Records::default();
    let folder = tempfile::tempdir().unwrap();
    train(&context, &ReferenceCache::new(folder.path()), &mut records)?;
    Ok(records.0)
}

const LORA: Train = Train::Lora(LoraConfig { r: 4, alpha: 8.0 });

/// Rows of a completion with its prompt and its mismatched completion, for sequences of 64 tokens.
const ROWS: usize = 32 + 31 + 31;

fn assert_close(a: &[MetricsRecord], b: &[MetricsRecord]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        for (name, value) in a.values.iter().filter(|(name, _)| !name.starts_with("memory/")) {
            let other = b.values[name];
            assert!(
                (value - other).abs() < 1e-4 * (1.0 + value.abs()),
                "step {}: {name} {value} {other}",
                a.step
            );
        }
    }
}

#[test]
fn a_step_that_runs_out_of_memory_is_repeated_with_less() {
    for kind in [LORA, Train::Full] {
        let whole = run(&SingleProcess, kind, None).unwrap();
        assert!(whole.iter().all(|record| !record.values.contains_key("memory/retries")));
        // Room for half of the blocks, for one block, and for one block of half and of an eighth of
        // the batch.
        for (limit, retries, micro_batch_size) in
            [(8 * ROWS * 2, 1.0, 8.0), (8 * ROWS, 2.0, 8.0), (4 * ROWS, 3.0, 4.0), (ROWS, 5.0, 1.0)]
        {
            let records = run(&SingleProcess, kind, Some(limit)).unwrap();
            assert_close(&whole, &records);
            // The rest of the run keeps what the first step found.
            let noted: Vec<_> = records.iter().map(|record| record.values.get("memory/retries")).collect();
            assert_eq!(noted, [Some(&retries), None, None]);
            assert_eq!(records[0].values["memory/micro_batch_size"], micro_batch_size);
        }
        let error = run(&SingleProcess, kind, Some(ROWS - 1)).unwrap_err().to_string();
        assert!(error.contains("step 0: out of memory with 1 completions per micro-batch"), "{error}");
    }
}

#[test]
fn ranks_back_off_together() {
    let whole = run(&SingleProcess, LORA, None).unwrap();
    // Only rank 1 has too little memory.
    let parts = on_threads(2, |group| run(&group, LORA, (group.rank() == 1).then_some(2 * ROWS)).unwrap());
    assert_eq!(parts[0], parts[1]);
    assert_close(&whole, &parts[0]);
    assert_eq!(parts[0][0].values["memory/micro_batch_size"], 2.0);
}
