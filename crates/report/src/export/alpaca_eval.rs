//! What policies say, as AlpacaEval takes it: one list of outputs for each run, and one of what people chose.

use std::{collections::BTreeMap, path::Path};

use prospect_core::files::write_json;
use serde::Serialize;

use super::Named;
use crate::ReportError;

/// An element of `model_outputs` or `reference_outputs`. AlpacaEval matches outputs by their instruction.
#[derive(Serialize)]
struct Entry<'a> {
    instruction: &'a str,
    output: &'a str,
    generator: &'a str,
    dataset: &'a str,
}

/// Writes `NAME.json` for every run that said something, and `reference_outputs.json`.
pub(super) fn write(dataset: &str, named: &[Named<'_>], folder: &Path) -> Result<usize, ReportError> {
    let mut references: BTreeMap<&str, Entry<'_>> = BTreeMap::new();
    let mut runs = 0;
    for Named { name, run } in named.iter().filter(|named| !named.run.generations.is_empty()) {
        let mut outputs = Vec::new();
        for said in &run.generations {
            let instruction = instruction(&said.prompt);
            outputs.push(Entry { instruction, output: &said.completion, generator: name, dataset });
            let chosen = Entry { instruction, output: &said.chosen, generator: "chosen", dataset };
            references.entry(instruction).or_insert(chosen);
        }
        write_json(&folder.join("model_outputs").join(format!("{name}.json")), &outputs)?;
        runs += 1;
    }
    write_json(&folder.join("reference_outputs.json"), &references.into_values().collect::<Vec<_>>())?;
    Ok(runs)
}

/// A prompt as an instruction: a single turn of the user's stands without its role, a conversation as it is.
fn instruction(prompt: &str) -> &str {
    match prompt.strip_prefix("user: ") {
        Some(turn) if !turn.contains("\n\nassistant: ") => turn,
        _ => prompt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_turn_loses_its_role() {
        assert_eq!(instruction("user: hi\n\nthere"), "hi\n\nthere");
        for conversation in ["user: hi\n\nassistant: yo\n\nuser: why", "system: be kind\n\nuser: hi"] {
            assert_eq!(instruction(conversation), conversation);
        }
    }
}
