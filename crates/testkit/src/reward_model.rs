//! Reward models with random weights, made from the golden files of `prospect-model`.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::split_mix::uniform_values;

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
