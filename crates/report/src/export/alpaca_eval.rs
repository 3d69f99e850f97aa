//! AlpacaEval: one list of outputs for each run, and one of the chosen completions as references.

use std::{collections::BTreeMap, path::Path};

use prospect_core::files::write_json;
use serde::Serialize;

use super::NamedRun;
use crate::ReportError;

/// An element of `model_outputs` or `reference_outputs`, matched by instruction.
#[derive(Serialize)]
struct AlpacaEvalOutput<'a> {
    instruction: &'a str,
    output: &'a str,
    generator: &'a str,
    dataset: &'a str,
}

/// Writes `model_outputs/NAME.json` for every run with generations, and `reference_outputs.json`.
/// Returns the number of runs.
pub(super) fn write(dataset: &str, named: &[NamedRun<'_>], folder: &Path) -> Result<usize, ReportError> {
    let mut references: BTreeMap<&str, AlpacaEvalOutput<'_>> = BTreeMap::new();
    let mut runs = 0;
    for NamedRun { name, run } in named.iter().filter(|named| !named.run.generations.is_empty()) {
        let mut outputs = Vec::new();
        for generation in &run.generations {
            let instruction = generation.instruction();
            outputs.push(AlpacaEvalOutput {
                instruction,
                output: &generation.completion,
                generator: name,
                dataset,
            });
            if let Some(output) = &generation.chosen {
                let chosen = AlpacaEvalOutput { instruction, output, generator: "chosen", dataset };
                references.entry(instruction).or_insert(chosen);
            }
        }
        write_json(&folder.join("model_outputs").join(format!("{name}.json")), &outputs)?;
        runs += 1;
    }
    write_json(&folder.join("reference_outputs.json"), &references.into_values().collect::<Vec<_>>())?;
    Ok(runs)
}
