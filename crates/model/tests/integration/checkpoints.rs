//! Checkpoints as they are published: weights are those of the files, or the files are refused by
//! name.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use prospect_model::{Adapter, LoraConfig, Model, ModelError, ModelFile, Recipe, load_adapter, save_adapter};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use serde_json::{Value, json};

const TINY: &str = "{vocab_size: 300, hidden_size: 32, intermediate_size: 96, num_hidden_layers: 2,
  num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8, max_position_embeddings: 64}";

fn resolve(text: &str) -> Result<Recipe, ModelError> {
    let document = prospect_core::config::Document::from_text("model.yaml", text).unwrap();
    let file: ModelFile = document.read().unwrap();
    file.resolve(&|path| {
        if Path::new(path).exists() { Ok(PathBuf::from(path)) } else { Err("no such file".into()) }
    })
}

fn load(weights: &Path) -> Result<Model, ModelError> {
    resolve(&format!("weights: {}", weights.display()))?.load()
}

fn error_of(weights: &Path) -> String {
    load(weights).unwrap_err().to_string()
}

/// Writes a model of random weights to a folder of its own.
pub(crate) fn saved(extra: &str) -> (Model, tempfile::TempDir) {
    saved_as(&TINY.replace('}', &format!("{extra}}}")))
}

/// Makes a folder one of another tool, which records no hashes, so that its files may be changed.
fn forget_hashes(folder: &Path) {
    fs_err::remove_file(folder.join("BLAKE3SUMS")).unwrap();
}

fn saved_as(architecture: &str) -> (Model, tempfile::TempDir) {
    let text = format!("weights: random\ntokenizer: bytes\narchitecture: {architecture}");
    let (model, folder) = (resolve(&text).unwrap().load().unwrap(), tempfile::tempdir().unwrap());
    model.save(folder.path()).unwrap();
    forget_hashes(folder.path());
    (model, folder)
}

fn logits(model: &Model) -> Vec<Vec<f32>> {
    model.decoder.logits(&[5, 17, 255, 3, 90], Adapter::On).unwrap().to_vec2().unwrap()
}

fn assert_close(one: &Model, other: &Model, tolerance: f32, what: &str) {
    let (one, other) = (logits(one), logits(other));
    let difference = one.iter().flatten().zip(other.iter().flatten()).map(|(a, b)| (a - b).abs());
    let largest = difference.fold(0.0, f32::max);
    assert!(largest <= tolerance, "{what}: {largest}");
}

fn edit_config(folder: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    edit_json(&folder.join("config.json"), change);
}

fn edit_json(path: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let mut value: Value = serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap();
    change(value.as_object_mut().unwrap());
    fs_err::write(path, value.to_string()).unwrap();
}

fn tensors(folder: &Path) -> BTreeMap<String, Tensor> {
    let read = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    read.into_iter().collect()
}

fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let tensors: HashMap<_, _> =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

/// Tensor in a file: type, shape and bytes.
type Raw = (Dtype, Vec<usize>, Vec<u8>);

fn raw(tensor: &Tensor) -> Raw {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    (Dtype::F32, tensor.dims().to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn write_raw(path: &Path, tensors: &BTreeMap<String, Raw>) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    serialize_to_file(views, None, path).unwrap();
}

/// Layout of the scales of a matrix.
#[derive(Clone, Copy)]
struct Scales {
    /// Ending of their names, after `weight` or in its place.
    name: &'static str,
    /// Rows and columns of a block.
    block: [usize; 2],
    shape: fn(usize, usize) -> Vec<usize>,
    /// Largest number, which stands for the largest value of a block.
    largest: f32,
    /// Factor of a scale in the file.
    unit: f32,
}

/// Quantises the matrices of the blocks of `folder` to 8-bit numbers with `scales`. Writes the
/// values that these mean to `meant`.
fn quantise(folder: &Path, meant: &Path, dtype: Dtype, scales: Scales) {
    let (mut stored, mut plain) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in tensors(folder) {
        if tensor.dims().len() != 2 || !name.contains(".layers.") {
            stored.insert(name.clone(), raw(&tensor));
            plain.insert(name, tensor);
            continue;
        }
        let (rows, columns) = tensor.dims2().unwrap();
        let values: Vec<Vec<f32>> = tensor.to_vec2().unwrap();
        let (down, across) = (rows.div_ceil(scales.block[0]), columns.div_ceil(scales.block[1]));
        let mut factors = vec![0f32; down * across];
        let block_of = |row: usize, column: usize| row / scales.block[0] * across + column / scales.block[1];
        for (row, values) in values.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                let factor = &mut factors[block_of(row, column)];
                *factor = factor.max(value.abs() / scales.largest);
            }
        }
        let (mut bytes, mut restored) = (Vec::new(), Vec::new());
        for (row, values) in values.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                let factor = factors[block_of(row, column)];
                let (byte, number) = encode(value / factor, dtype);
                bytes.push(byte);
                restored.push(number * factor);
            }
        }
        let in_file: Vec<u8> =
            factors.iter().flat_map(|factor| (factor * scales.unit).to_le_bytes()).collect();
        let of_scales = name.strip_suffix("weight").unwrap().to_owned() + scales.name;
        stored.insert(of_scales, (Dtype::F32, (scales.shape)(down, across), in_file));
        stored.insert(name.clone(), (dtype, vec![rows, columns], bytes));
        plain.insert(name, Tensor::from_vec(restored, (rows, columns), &Device::Cpu).unwrap());
    }
    write_raw(&folder.join("model.safetensors"), &stored);
    fs_err::create_dir_all(meant).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs_err::copy(folder.join(name), meant.join(name)).unwrap();
    }
    write(&meant.join("model.safetensors"), &plain);
}

/// Returns the 8-bit number nearest to `value`, as byte and value.
fn encode(value: f32, dtype: Dtype) -> (u8, f32) {
    if dtype == Dtype::I8 {
        let number = value.round() as i8;
        return (number.cast_unsigned(), f32::from(number));
    }
    let number = Tensor::new(&[value], &Device::Cpu).unwrap().to_dtype(DType::F8E4M3).unwrap();
    let mut bytes = Vec::new();
    number.write_bytes(&mut bytes).unwrap();
    (bytes[0], number.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap()[0])
}

#[test]
fn eight_bit_weights_are_multiplied_by_their_scales() {
    let matrix = Scales {
        name: "weight_scale",
        block: [usize::MAX, usize::MAX],
        shape: |_, _| vec![1],
        largest: 448.0,
        unit: 1.0,
    };
    let row = Scales { block: [1, usize::MAX], shape: |down, _| vec![down, 1], ..matrix };
    let blocks = Scales {
        name: "weight_scale_inv",
        block: [24, 20],
        shape: |down, across| vec![down, across],
        ..matrix
    };
    let int8 = Scales { largest: 127.0, ..row };
    let llm_int8 = Scales { name: "SCB", shape: |down, _| vec![down], unit: 127.0, ..int8 };
    let compressed = |format: &str, kind: &str| {
        json!({"quant_method": "compressed-tensors", "format": format,
            "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": kind}}}})
    };
    for (what, dtype, scales, config) in [
        ("matrix", Dtype::F8_E4M3, matrix, compressed("float-quantized", "float")),
        ("row", Dtype::F8_E4M3, row, json!({"quant_method": "fbgemm_fp8"})),
        ("block", Dtype::F8_E4M3, blocks, json!({"quant_method": "fp8", "weight_block_size": [24, 20]})),
        ("int8", Dtype::I8, int8, compressed("int-quantized", "int")),
        ("LLM.int8", Dtype::I8, llm_int8, json!({"quant_method": "bitsandbytes", "load_in_8bit": true})),
    ] {
        let (model, folder) = saved("");
        let meant = folder.path().join("meant");
        quantise(folder.path(), &meant, dtype, scales);
        edit_config(folder.path(), |config_json| {
            config_json.insert("quantization_config".into(), config);
        });
        let loaded = load(folder.path()).unwrap();
        assert_close(&loaded, &load(&meant).unwrap(), 1e-6, what);
        assert_close(&loaded, &model, 0.02, what);
        assert_ne!(logits(&loaded), logits(&model), "{what}");
    }
}

#[test]
fn numbers_without_a_known_scale_are_never_taken_for_weights() {
    let (_, folder) = saved("");
    let scales = Scales {
        name: "weight_scale",
        block: [usize::MAX, usize::MAX],
        shape: |_, _| vec![1],
        largest: 127.0,
        unit: 1.0,
    };
    quantise(folder.path(), &folder.path().join("meant"), Dtype::I8, scales);
    let path = folder.path().join("model.safetensors");
    let bytes = fs_err::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let all: BTreeMap<String, Raw> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    // Scales are found without a config.
    assert!(load(folder.path()).is_ok());

    let unscaled = all.clone().into_iter().filter(|(name, _)| !name.ends_with("_scale")).collect();
    write_raw(&path, &unscaled);
    let error = error_of(folder.path());
    assert!(error.contains("has type I8, and there are no scales for it"), "{error}");

    let relabelled = |dtype| -> BTreeMap<String, Raw> {
        let of = |(name, mut tensor): (String, Raw)| {
            tensor.0 = if tensor.0 == Dtype::I8 { dtype } else { tensor.0 };
            (name, tensor)
        };
        all.clone().into_iter().map(of).collect()
    };
    write_raw(&path, &relabelled(Dtype::U8));
    let error = error_of(folder.path());
    assert!(error.contains("has type U8, which is not that of weights"), "{error}");

    let float = |(name, tensor): (String, Raw)| {
        let (dtype, shape, bytes) = tensor;
        let widened = bytes.iter().flat_map(|byte| [0, 0, *byte, 63]).collect();
        let tensor = if dtype == Dtype::I8 { (Dtype::F32, shape, widened) } else { (dtype, shape, bytes) };
        (name, tensor)
    };
    write_raw(&path, &all.clone().into_iter().map(float).collect());
    let error = error_of(folder.path());
    assert!(error.contains("has type F32, yet there is"), "{error}");

    let packed = |(name, tensor): (String, Raw)| (name.replace("q_proj.weight", "q_proj.qweight"), tensor);
    write_raw(&path, &all.into_iter().map(packed).collect());
    let error = error_of(folder.path());
    assert!(error.contains("q_proj.qweight` in place of `"), "{error}");
}

#[test]
fn quantisation_methods_are_refused_by_name_before_weights_are_read() {
    let (_, folder) = saved("");
    fs_err::remove_file(folder.path().join("model.safetensors")).unwrap();
    for (config, expected) in [
        (json!({"quant_method": "gptq", "bits": 4}), "quant_method `gptq`"),
        (json!({"quant_method": "awq", "bits": 4}), "quant_method `awq`"),
        (json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), "`bitsandbytes` in 4 bits"),
        (
            json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}),
            "`compressed-tensors` with format \"pack-quantized\"",
        ),
    ] {
        edit_config(folder.path(), |config_json| {
            config_json.insert("quantization_config".into(), config);
        });
        let recipe = resolve(&format!("weights: {}", folder.path().display())).unwrap();
        for error in [error_of(folder.path()), recipe.architecture().unwrap_err().to_string()] {
            assert!(error.contains("`quantization_config` has") && error.contains(expected), "{error}");
        }
    }
}

#[test]
fn element_types_may_differ_within_a_file() {
    let (model, folder) = saved("");
    let types = [DType::F32, DType::BF16, DType::F16, DType::F64];
    let mixed = tensors(folder.path()).into_iter().zip(types.iter().cycle());
    let mixed = mixed.map(|((name, tensor), dtype)| (name, tensor.to_dtype(*dtype).unwrap()));
    write(&folder.path().join("model.safetensors"), &mixed.collect());
    assert_close(&load(folder.path()).unwrap(), &model, 0.005, "mixed");
}

/// Splits the checkpoint of a folder in two, with an index, and removes the single file.
fn shard(folder: &Path) {
    let tensors = tensors(folder);
    let mut map = serde_json::Map::new();
    for part in [1, 2] {
        let name = format!("model-0000{part}-of-00002.safetensors");
        let own = tensors.iter().enumerate().filter(|(index, _)| index % 2 == part - 1);
        let own: BTreeMap<_, _> = own.map(|(_, (name, tensor))| (name.clone(), tensor.clone())).collect();
        map.extend(own.keys().map(|tensor| (tensor.clone(), name.clone().into())));
        write(&folder.join(&name), &own);
    }
    fs_err::remove_file(folder.join("model.safetensors")).unwrap();
    let index = json!({ "weight_map": map }).to_string();
    fs_err::write(folder.join("model.safetensors.index.json"), index).unwrap();
}

#[test]
fn a_single_file_wins_over_an_index_and_missing_shards_are_named() {
    let (model, folder) = saved("");
    let single = fs_err::read(folder.path().join("model.safetensors")).unwrap();
    shard(folder.path());
    assert_eq!(logits(&load(folder.path()).unwrap()), logits(&model));
    // A shard stands for the checkpoint.
    let second = folder.path().join("model-00002-of-00002.safetensors");
    assert_eq!(logits(&load(&second).unwrap()), logits(&model));

    fs_err::remove_file(&second).unwrap();
    let error = error_of(folder.path());
    let named = "1 of 2 shards are missing: `model-00002-of-00002.safetensors`";
    assert!(error.contains("model.safetensors.index.json") && error.contains(named), "{error}");

    fs_err::write(folder.path().join("model.safetensors"), single).unwrap();
    assert_eq!(logits(&load(folder.path()).unwrap()), logits(&model));
}

#[test]
fn weights_may_be_a_file() {
    let (model, folder) = saved("");
    let file = |name: &str| folder.path().join(name);
    assert_eq!(logits(&load(&file("model.safetensors")).unwrap()), logits(&model));
    fs_err::rename(file("model.safetensors"), file("step-100.safetensors")).unwrap();
    let loaded = load(&file("step-100.safetensors")).unwrap();
    assert_eq!(logits(&loaded), logits(&model));
    let error = error_of(folder.path());
    assert!(error.contains("to use `step-100.safetensors`, set `weights:` to its path"), "{error}");

    // Its content is part of the fingerprint.
    let mut other = tensors_of(&file("step-100.safetensors"));
    let norm = other.get_mut("model.norm.weight").unwrap();
    *norm = (&*norm * 2.0).unwrap();
    write(&file("step-200.safetensors"), &other);
    assert_ne!(load(&file("step-200.safetensors")).unwrap().fingerprint, loaded.fingerprint);

    fs_err::rename(file("config.json"), file("other.json")).unwrap();
    let error = error_of(&file("step-100.safetensors"));
    assert!(error.contains("config.json: the file is missing"), "{error}");
    fs_err::rename(file("step-100.safetensors"), file("pytorch_model.bin")).unwrap();
    assert!(error_of(&file("pytorch_model.bin")).contains("PyTorch files are not read"));
    fs_err::rename(file("other.json"), file("config.json")).unwrap();
    fs_err::remove_file(file("step-200.safetensors")).unwrap();
    assert!(error_of(folder.path()).contains("PyTorch files such as `pytorch_model.bin`"));
}

fn tensors_of(path: &Path) -> BTreeMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect()
}

#[test]
fn a_tied_head_is_saved_once_or_twice() {
    let (model, folder) = saved(", tie_word_embeddings: true");
    let path = folder.path().join("model.safetensors");
    let mut twice = tensors(folder.path());
    assert!(!twice.contains_key("lm_head.weight"));
    twice.insert("lm_head.weight".into(), twice["model.embed_tokens.weight"].clone());
    write(&path, &twice);
    assert_eq!(logits(&load(folder.path()).unwrap()), logits(&model));

    let head = (&twice["lm_head.weight"] * 1.5).unwrap();
    twice.insert("lm_head.weight".into(), head);
    write(&path, &twice);
    let error = error_of(folder.path());
    assert!(error.contains("`lm_head.weight` has other values; set `tie_word_embeddings: false`"), "{error}");
    edit_config(folder.path(), |config| {
        config.insert("tie_word_embeddings".into(), false.into());
    });
    assert_ne!(logits(&load(folder.path()).unwrap()), logits(&model));

    twice.remove("lm_head.weight");
    write(&path, &twice);
    let error = error_of(folder.path());
    assert!(
        error.contains("`lm_head.weight` is missing") && error.contains("tie_word_embeddings: true"),
        "{error}"
    );
}

#[test]
fn rows_beyond_the_vocabulary_are_padding_and_one_may_be_missing() {
    let (model, folder) = saved("");
    let path = folder.path().join("model.safetensors");
    let plain = tensors(folder.path());
    let changed = |change: &dyn Fn(&Tensor) -> Tensor| {
        let mut changed = plain.clone();
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            changed.insert(name.into(), change(&plain[name]));
        }
        write(&path, &changed);
    };
    let padding = Tensor::ones((20, 32), DType::F32, &Device::Cpu).unwrap();
    changed(&|weight| Tensor::cat(&[weight, &padding], 0).unwrap());
    let loaded = load(folder.path()).unwrap();
    assert_eq!((logits(&loaded), loaded.decoder.architecture().vocabulary), (logits(&model), 300));

    changed(&|weight| weight.narrow(0, 0, 299).unwrap().contiguous().unwrap());
    let loaded = load(folder.path()).unwrap();
    assert_eq!(loaded.decoder.architecture().vocabulary, 299);
    let expected: Vec<Vec<f32>> = logits(&model).iter().map(|row| row[..299].to_vec()).collect();
    assert_eq!(logits(&loaded), expected);

    changed(&|weight| weight.narrow(0, 0, 298).unwrap().contiguous().unwrap());
    assert!(error_of(folder.path()).contains("has shape [298, 32]"));
}

#[test]
fn every_token_that_text_can_contain_has_a_row() {
    // A row for each of the tokenizer's tokens.
    let (model, folder) = saved_as(&TINY.replace("300", "258"));
    let path = folder.path().join("tokenizer.json");
    let original = fs_err::read(&path).unwrap();
    edit_json(&path, |tokenizer| {
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        let mut token = added[0].clone();
        (token["content"], token["id"]) = ("[PAD]".into(), 258.into());
        added.push(token);
    });
    assert_eq!(logits(&load(folder.path()).unwrap()), logits(&model));

    edit_json(&folder.path().join("tokenizer_config.json"), |config| {
        let template = config["chat_template"].as_str().unwrap().to_owned() + "[PAD]";
        config.insert("chat_template".into(), template.into());
    });
    let error = error_of(folder.path());
    assert!(error.contains("token `[PAD]` has id 258") && error.contains("only 258 rows"), "{error}");
    // The vocabulary proper.
    fs_err::write(&path, &original).unwrap();
    edit_json(&path, |tokenizer| tokenizer["model"]["vocab"]["a"] = 512.into());
    let error = error_of(folder.path());
    assert!(error.contains("token `a` has id 512"), "{error}");
}

#[test]
fn a_sentencepiece_model_alone_comes_with_the_command_that_converts_it() {
    let (_, folder) = saved("");
    fs_err::rename(folder.path().join("tokenizer.json"), folder.path().join("tokenizer.model")).unwrap();
    let error = error_of(folder.path());
    let command =
        format!("AutoTokenizer.from_pretrained('{0}').save_pretrained('{0}')", folder.path().display());
    assert!(
        error.contains("`tokenizer.model`, but no tokenizer.json") && error.contains(&command),
        "{error}"
    );
}

/// Writes an adapter of non-zero weights on `base`, and returns the merged model.
fn adapter(base: &Model, named: &str, folder: &Path) -> Model {
    let lora = LoraConfig { r: 4, alpha: 6.0 };
    let policy = base.decoder.with_lora(lora, 1).unwrap();
    for (index, (_, parameter)) in policy.parameters().iter().enumerate() {
        let value = (parameter.value() + 0.01 * (index % 5) as f64).unwrap();
        parameter.var().set(&value).unwrap();
    }
    save_adapter(&policy, lora, named, folder).unwrap();
    forget_hashes(folder);
    let decoder = load_adapter(&base.decoder, folder).unwrap().merged().unwrap();
    Model { decoder, ..base.clone() }
}

#[test]
fn the_folder_of_an_adapter_stands_for_the_merged_model() {
    let (base, folder) = saved("");
    let (inside, beside) = (folder.path().join("adapter"), folder.path().join("other"));
    // By its path, and relative to the adapter; this name does not exist in the current directory.
    let relative = format!("../../{}", folder.path().file_name().unwrap().display());
    for (folder, named) in [(&inside, folder.path().display().to_string()), (&beside, relative)] {
        let merged = adapter(&base, &named, folder);
        let loaded = load(folder).unwrap();
        assert_close(&loaded, &merged, 1e-5, &named);
        assert_ne!(logits(&loaded), logits(&base));
        assert_ne!(loaded.fingerprint, load(&folder.join("..")).unwrap().fingerprint);
        let quantised = resolve(&format!("weights: {}\nquantization: q8_0", folder.display())).unwrap();
        assert_close(&quantised.load().unwrap(), &merged, 0.05, "quantised");
    }
    // An adapter that was trained on a merged adapter.
    let merged = load(&inside).unwrap();
    let expected = adapter(&merged, &inside.display().to_string(), &beside);
    assert_close(&load(&beside).unwrap(), &expected, 1e-5, "chain");

    // An adapter of some of the layers.
    let path = inside.join("adapter_model.safetensors");
    let mut some = tensors_of(&path);
    some.retain(|name, _| name.contains("q_proj") || name.contains("v_proj"));
    write(&path, &some);
    let loaded = logits(&load(&inside).unwrap());
    assert!(loaded != logits(&base) && loaded != logits(&merged));
    // Its scale is alpha/√r with `use_rslora`, here as much as twice the alpha without.
    edit_json(&inside.join("adapter_config.json"), |config| {
        config.insert("use_rslora".into(), true.into());
    });
    let with_root = logits(&load(&inside).unwrap());
    edit_json(&inside.join("adapter_config.json"), |config| {
        config.insert("use_rslora".into(), false.into());
        config.insert("lora_alpha".into(), 12.0.into());
    });
    assert!(with_root != loaded && with_root == logits(&load(&inside).unwrap()));
}

#[test]
fn adapters_that_cannot_be_merged_say_why_and_how_else() {
    let (base, folder) = saved("");
    let path = folder.path().join("adapter");
    adapter(&base, "someone/base", &path);
    let error = resolve(&format!("weights: {}", path.display())).unwrap_err().to_string();
    assert!(error.contains("is a LoRA adapter of `someone/base`, which cannot be fetched"), "{error}");
    assert!(error.contains("merge_and_unload"), "{error}");

    adapter(&base, &folder.path().display().to_string(), &path);
    let config = path.join("adapter_config.json");
    let original = fs_err::read(&config).unwrap();
    for (key, value) in [
        ("use_dora", json!(true)),
        ("peft_type", json!("IA3")),
        ("modules_to_save", json!(["lm_head"])),
        ("bias", json!("all")),
        ("alpha_pattern", json!({"q_proj": 3})),
        ("fan_in_fan_out", json!(true)),
    ] {
        edit_json(&config, |config| {
            config.insert(key.into(), value);
        });
        let error = error_of(&path);
        assert!(error.contains(key) && error.contains("is not supported"), "{error}");
        fs_err::write(&config, &original).unwrap();
    }
    let weights = path.join("adapter_model.safetensors");
    let mut more = tensors_of(&weights);
    more.insert("base_model.model.lm_head.lora_A.weight".into(), more.values().next().unwrap().clone());
    write(&weights, &more);
    let error = error_of(&path);
    assert!(error.contains("lm_head.lora_A.weight` belongs to no linear layer"), "{error}");
    fs_err::remove_file(weights).unwrap();
    assert!(error_of(&path).contains("adapter_model.safetensors: the file is missing"));

    adapter(&base, ".", &path);
    let error = error_of(&path);
    assert!(error.contains("is one its own base model?") || error.contains("config.json"), "{error}");
}

#[test]
fn the_language_model_of_an_image_text_checkpoint_loads() {
    let architecture = TINY.replace('{', "{model_type: gemma3_text, ").replace('}', ", sliding_window: 4}");
    let (model, folder) = saved_as(&architecture);
    let plain = tensors(folder.path());
    let config = folder.path().join("config.json");
    let inner: Value = serde_json::from_slice(&fs_err::read(&config).unwrap()).unwrap();
    fs_err::write(&config, json!({"model_type": "gemma3", "text_config": inner}).to_string()).unwrap();
    // Older and newer names.
    for prefix in ["language_model.model.", "model.language_model."] {
        let named = plain.iter().map(|(name, tensor)| (name.replacen("model.", prefix, 1), tensor.clone()));
        write(&folder.path().join("model.safetensors"), &named.collect());
        let loaded = load(folder.path()).unwrap();
        assert_eq!(logits(&loaded), logits(&model));
        assert_eq!(loaded.decoder.architecture(), model.decoder.architecture());
    }
}
