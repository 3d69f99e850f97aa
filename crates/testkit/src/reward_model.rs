//! Reward models with random weights, made from the golden files of `prospect-model`.

use std::path::Path;

use serde_json::{Map, Value, json};

/// Returns pseudo-random values in [−1, 1), identical to those of `benches/peers/golden_families.py`:
/// SplitMix64 seeded with the FNV-1a hash of `name`.
fn uniform_values(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
    .take(count)
}

/// Returns a safetensors file of tensors with these names and shapes, in f32. A weight is 0.3 times
/// a [uniform value](uniform_values), plus 1 in norms.
fn safetensors(shapes: &Map<String, Value>) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape) in shapes {
        let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
        let centre = if shape.len() == 1 && name.ends_with("weight") { 1.0 } else { 0.0 };
        let start = data.len();
        for value in uniform_values(name, shape.iter().product()) {
            data.extend_from_slice(&((centre + 0.3 * value) as f32).to_le_bytes());
        }
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Writes the files of the reward model that a golden file describes to `folder`, and returns the
/// golden file. `case` is its name in `crates/model/tests/integration/classifiers`.
pub fn write_reward_model(case: &str, folder: &Path) -> Value {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/integration/classifiers");
    let text = fs_err::read(goldens.join(format!("{case}.json"))).unwrap();
    let golden: Value = serde_json::from_slice(&text).unwrap();
    fs_err::create_dir_all(folder).unwrap();
    fs_err::write(folder.join("config.json"), golden["config"].to_string()).unwrap();
    for (name, content) in golden["files"].as_object().unwrap() {
        fs_err::write(folder.join(name), content.as_str().unwrap()).unwrap();
    }
    let weights = safetensors(golden["tensors"].as_object().unwrap());
    fs_err::write(folder.join("model.safetensors"), weights).unwrap();
    golden
}
