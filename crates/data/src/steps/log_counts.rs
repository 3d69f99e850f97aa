//! Groups and times of the rows in each split.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{
    Split,
    table::{feedback::Feedback, ids::Id},
};

/// Groups and times of a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogCounts {
    /// Rows as read without a group.
    pub rows_without_group: u64,
    /// Rows as read without a time.
    pub rows_without_time: u64,
    /// Groups with rows in both splits.
    pub groups_in_both_splits: u64,
    /// Training split.
    pub train: LogSpan,
    /// Test split.
    pub test: LogSpan,
}

/// Groups and times of the rows in a split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSpan {
    /// Distinct groups.
    pub groups: u64,
    /// Earliest time, in ISO 8601.
    pub first: Option<String>,
    /// Latest time, in ISO 8601.
    pub last: Option<String>,
}

/// Counts groups and times after all steps; None if no source gives either.
pub(crate) fn count(feedback: &Feedback) -> Option<LogCounts> {
    if feedback.logs.is_empty() {
        return None;
    }
    let without = |missing: fn(&Feedback, usize) -> bool| {
        feedback.rows.iter().filter(|row| missing(feedback, row.group as usize)).count() as u64
    };
    let groups = |split| -> HashSet<Id> {
        feedback.kept(split).filter_map(|row| feedback.log(row.group as usize).group).collect()
    };
    let (train, test) = (groups(Split::Train), groups(Split::Test));
    let span = |split, groups: &HashSet<Id>| {
        let times = || feedback.kept(split).filter_map(|row| feedback.time(row));
        LogSpan {
            groups: groups.len() as u64,
            first: times().min().map(|time| time.to_string()),
            last: times().max().map(|time| time.to_string()),
        }
    };
    Some(LogCounts {
        rows_without_group: without(|feedback, index| feedback.log(index).group.is_none()),
        rows_without_time: without(|feedback, index| feedback.log(index).time.is_none()),
        groups_in_both_splits: train.intersection(&test).count() as u64,
        train: span(Split::Train, &train),
        test: span(Split::Test, &test),
    })
}
