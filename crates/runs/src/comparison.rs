//! Record of a comparison in stages: `compare.json`.

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use crate::{Estimate, Verdict};

/// `compare.json`: the looks of a comparison, planned and done. The experiment itself is in
/// `plan.yaml` beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The request that was planned.
    pub request: ComparisonRequest,
    /// BLAKE3 hash of `plan.yaml`.
    pub plan_hash: String,
    /// Methods and the cost of one run of each, the baseline first.
    pub methods: Vec<MethodCost>,
    /// Cost of what the runs of one seed share.
    pub seed: f64,
    /// Unit of costs and budgets.
    pub unit: CostUnit,
    /// Methods that continue beside the baseline after the first look.
    pub finalists: usize,
    /// Looks of each call, in order.
    pub calls: Vec<Vec<PlannedLook>>,
    /// Looks that are done.
    pub looks: Vec<Look>,
    /// The recommendation, or that there is none yet, in sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommendation: Option<String>,
    /// Calls whose report was written; None in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<usize>,
}

/// Arguments of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparisonRequest {
    /// Data recipe, feedback or prepared dataset.
    pub data: String,
    /// Model recipe.
    pub model: String,
    /// Methods; empty for the default ones.
    pub methods: Vec<String>,
    /// Further settings, as `KEY=VALUE`.
    pub settings: Vec<String>,
    /// Further options that change the plan, as on the command line.
    pub options: Vec<String>,
}

/// A method with the cost of one of its runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodCost {
    /// Name of the method: a series of the experiment.
    pub method: String,
    /// Cost of one run.
    pub run: f64,
}

/// Unit of a comparison's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CostUnit {
    /// Optimizer steps. Evaluations are converted by a fixed rate.
    Steps,
    /// Seconds, as measured before the plan was frozen.
    Seconds,
}

/// A look that is planned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlannedLook {
    /// Seeds of the methods that train, including those of earlier looks.
    pub seeds: usize,
    /// Significance level that the look may spend.
    pub level: f64,
}

/// A look that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Seeds and level.
    #[serde(flatten)]
    pub planned: PlannedLook,
    /// Results of all methods but the baseline.
    pub results: Vec<LookResult>,
    /// Methods that continue beside the baseline.
    pub continuing: Vec<String>,
    /// True if the look ended the comparison.
    pub is_clear: bool,
}

/// Difference of one method from the baseline at a look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LookResult {
    /// The method.
    pub method: String,
    /// Number of seeds; fewer than the look's if the method was set aside before.
    pub seeds: usize,
    /// Difference from the baseline, with its interval at the level of its verdict.
    pub difference: Estimate,
    /// P-value after Holm's adjustment.
    pub p_holm: f64,
    /// Conclusion at this look, or at an earlier one.
    pub verdict: Verdict,
}

impl Comparison {
    /// Returns true if the last call was interrupted before its report. The same command then
    /// continues it, without a further budget.
    pub fn is_interrupted(&self) -> bool {
        match self.reported {
            Some(reported) => reported < self.calls.len(),
            None => self.recommendation.is_none(),
        }
    }

    /// Returns the next look, if one is left and none so far was clear.
    pub fn next_look(&self) -> Option<PlannedLook> {
        let planned = || self.calls.iter().flatten();
        if self.is_clear() { None } else { planned().nth(self.looks.len()).copied() }
    }

    /// Returns true if a look has ended the comparison.
    pub fn is_clear(&self) -> bool {
        self.looks.last().is_some_and(|look| look.is_clear)
    }

    /// Returns the methods that train at the next look, the baseline first.
    pub fn training(&self) -> Vec<&str> {
        let continues = |method: &str| {
            self.looks.last().is_none_or(|look| look.continuing.iter().any(|name| name == method))
        };
        let names = self.methods.iter().map(|method| method.method.as_str()).enumerate();
        names.filter(|(index, name)| *index == 0 || continues(name)).map(|(_, name)| name).collect()
    }

    /// Returns the seeds of each method: those of the next look, or of the last one in which it
    /// trained.
    pub fn seeds(&self, next: PlannedLook) -> Vec<(&str, usize)> {
        let training = self.training();
        let seeds = |name: &str| {
            if training.contains(&name) {
                return next.seeds;
            }
            let trained = |look: &&Look| {
                look.results.iter().any(|result| result.method == name && result.seeds == look.planned.seeds)
            };
            self.looks.iter().rfind(trained).map_or(0, |look| look.planned.seeds)
        };
        self.methods.iter().map(|method| (method.method.as_str(), seeds(&method.method))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(seeds: usize, results: &[(&str, usize)], continuing: &[&str]) -> Look {
        let result = |(method, seeds): &(&str, usize)| LookResult {
            method: (*method).to_owned(),
            seeds: *seeds,
            difference: Estimate { value: 0.0, low: -0.1, high: 0.1 },
            p_holm: 1.0,
            verdict: Verdict::Inconclusive,
        };
        Look {
            planned: PlannedLook { seeds, level: 0.01 },
            results: results.iter().map(result).collect(),
            continuing: continuing.iter().map(|name| (*name).to_owned()).collect(),
            is_clear: false,
        }
    }

    #[test]
    fn methods_keep_the_seeds_that_they_had_when_they_were_set_aside() {
        let planned = [3, 6, 9].map(|seeds| PlannedLook { seeds, level: 0.01 });
        let request = ComparisonRequest {
            data: "d".to_owned(),
            model: "m".to_owned(),
            methods: Vec::new(),
            settings: Vec::new(),
            options: Vec::new(),
        };
        let methods = ["dpo", "kto", "ipo"].map(|name| MethodCost { method: name.to_owned(), run: 1.0 });
        let mut comparison = Comparison {
            reported: None,
            request,
            plan_hash: String::new(),
            methods: methods.to_vec(),
            seed: 0.0,
            unit: CostUnit::Steps,
            finalists: 1,
            calls: vec![planned[..2].to_vec(), planned[2..].to_vec()],
            looks: Vec::new(),
            recommendation: None,
        };
        assert_eq!(comparison.next_look(), Some(planned[0]));
        assert_eq!(comparison.training(), ["dpo", "kto", "ipo"]);
        comparison.looks.push(look(3, &[("kto", 3), ("ipo", 3)], &["kto"]));
        assert_eq!(comparison.seeds(planned[1]), [("dpo", 6), ("kto", 6), ("ipo", 3)]);
        comparison.looks.push(look(6, &[("kto", 6), ("ipo", 3)], &["kto"]));
        assert_eq!(comparison.next_look(), Some(planned[2]));
        assert_eq!(comparison.seeds(planned[2]), [("dpo", 9), ("kto", 9), ("ipo", 3)]);
        comparison.looks[1].is_clear = true;
        assert_eq!(comparison.next_look(), None);
    }
}
