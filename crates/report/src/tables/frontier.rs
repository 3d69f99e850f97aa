//! Table of the KL–reward frontier.

use prospect_runs::{FrontierPoint, FrontierReward, RewardKind};

use super::{CsvTable, columns, numbers};
use crate::sweep_data::SweepData;

/// Returns the KL divergence and the rewards of samples: one row for each step and reward.
pub(super) fn frontier(sweep: &SweepData) -> CsvTable {
    let rows = |point: &FrontierPoint| {
        let mut shared = vec![
            point.series.clone(),
            sweep.x.name(point.x),
            point.x.to_string(),
            point.step.to_string(),
            point.is_last.to_string(),
        ];
        shared.extend(numbers(point.kl));
        shared.extend(numbers(point.root_kl()));
        let row = move |FrontierReward { kind, mean }: &FrontierReward| {
            let (kind, judge) = match kind {
                RewardKind::Utility => ("utility", ""),
                RewardKind::Reward(judge) => ("reward", judge.as_str()),
                RewardKind::WinRate(judge) => ("win_rate", judge.as_str()),
            };
            let mut row = shared.clone();
            row.extend([kind.to_owned(), judge.to_owned()]);
            row.extend(numbers(*mean));
            row.extend([point.seeds.to_string(), point.prompts.to_string()]);
            row
        };
        point.rewards.iter().map(row).collect::<Vec<_>>()
    };
    let points = sweep.summary.iter().flat_map(|summary| &summary.frontier);
    CsvTable {
        name: "frontier",
        columns: columns(&[
            "series",
            "x_name",
            "x",
            "step",
            "end",
            "kl",
            "kl_low",
            "kl_high",
            "root_kl",
            "root_kl_low",
            "root_kl_high",
            "reward",
            "judge",
            "value",
            "low",
            "high",
            "seeds",
            "prompts",
        ]),
        rows: points.flat_map(rows).collect(),
    }
}
