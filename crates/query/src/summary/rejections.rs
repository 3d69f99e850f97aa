//! Summary of the rejected rows.

use std::collections::BTreeMap;

use prospect_data::RejectedRow;
use serde::Serialize;

/// Rejected rows.
#[derive(Debug, Default, Serialize)]
pub struct Rejections {
    /// Total number.
    pub rows: u64,
    /// Counts by reason; several reasons for one row are joined by `+`.
    pub by_reason: BTreeMap<String, u64>,
    /// Counts by input file.
    pub by_file: BTreeMap<String, u64>,
    /// First rejected rows of each reason.
    pub examples: Vec<RejectedExample>,
}

/// A rejected row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedExample {
    /// Reason.
    pub reason: String,
    /// Name of the input file.
    pub file: String,
    /// Line of the row, from 1.
    pub line: usize,
    /// Details of the reason.
    pub detail: String,
}

/// Example rows per reason.
const EXAMPLES: u64 = 3;

impl Rejections {
    /// Counts rejected rows.
    pub(super) fn new(rows: Vec<RejectedRow>) -> Self {
        let mut rejections = Self::default();
        for RejectedRow { file, line, reason, detail } in rows {
            rejections.rows += 1;
            *rejections.by_file.entry(file.clone()).or_default() += 1;
            let of_reason = rejections.by_reason.entry(reason.clone()).or_default();
            *of_reason += 1;
            if *of_reason <= EXAMPLES {
                rejections.examples.push(RejectedExample { reason, file, line, detail });
            }
        }
        rejections.examples.sort_by(|a, b| a.reason.cmp(&b.reason));
        rejections
    }
}
