//! AlpacaEval's `annotations.json`: comparisons of two outputs by an annotator.
//!
//! `preference` is 1 if `output_1` is better and 2 if `output_2` is, or between them for annotators
//! that weight their answers; 0 and 1.5 are ties. `output_1` is the reference.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Map, Value};

use super::rows::{ComparedRow, Entry, ParsedFile, Side, UNREADABLE};

/// Parses annotations.
pub(super) fn parse(file: &Path, records: &[Map<String, Value>]) -> ParsedFile {
    let annotators: BTreeSet<&str> =
        records.iter().filter_map(|record| record.get("annotator")?.as_str()).collect();
    let judge = match annotators.first() {
        Some(annotator) if annotators.len() == 1 => (*annotator).to_owned(),
        _ => super::table::stem(file),
    };
    let rows = records.iter().map(|record| row(record).ok_or(UNREADABLE)).collect();
    ParsedFile { format: "AlpacaEval", judge, rows }
}

fn row(record: &Map<String, Value>) -> Option<Vec<Entry>> {
    let text = |key: &str| record.get(key).and_then(Value::as_str).map(str::to_owned);
    let side = |number: &str| Side {
        name: text(&format!("generator_{number}")),
        text: text(&format!("output_{number}")),
    };
    let score = record.get("preference").and_then(Value::as_f64).and_then(score_of_second);
    Some(vec![Entry::Comparison(ComparedRow {
        prompt: text("instruction")?,
        own: side("2"),
        other: Some(side("1")),
        score,
    })])
}

/// Share of `output_2` in a preference; None if it is no preference.
fn score_of_second(preference: f64) -> Option<f64> {
    match preference {
        0.0 => Some(0.5),
        1.0..=2.0 => Some(preference - 1.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_shares_of_the_second_output() {
        let scores = [1.0, 2.0, 1.5, 0.0, 1.25, -1.0, 2.5, 0.3].map(score_of_second);
        assert_eq!(scores, [Some(0.0), Some(1.0), Some(0.5), Some(0.5), Some(0.25), None, None, None]);
    }
}
