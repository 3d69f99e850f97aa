//! Binarisation: desirable and undesirable labels from scores.

use std::collections::HashMap;

use prospect_core::{draw::Draw, sample};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    ingest::raw::{RawGroup, RawRow, Remark, RowSink},
    table::ids::{self, Id},
};

/// Rule that turns scores into labels. Higher scores are better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum Binarise {
    /// Desirable if the score is at least a fixed threshold.
    Threshold {
        /// Lowest desirable score.
        at: f64,
    },
    /// Desirable if the score is at least the mean.
    Mean {
        /// Scores that the mean is taken over.
        over: ScoreScope,
    },
    /// Desirable if the score is at least the median. For an even count, the median is the mean of
    /// the two middle scores.
    Median {
        /// Scores that the median is taken over.
        over: ScoreScope,
    },
    /// Desirable with probability `1 / (1 + exp((midpoint - score) / scale))`, drawn per prompt and
    /// completion.
    Chance {
        /// Score at which the probability is 50 %.
        midpoint: f64,
        /// Distance above the midpoint at which the probability is 73 %.
        scale: f64,
    },
    /// The best completion of a prompt is desirable, the worst undesirable; together they form a
    /// pair. Other completions are dropped. On ties, the first counts as best and the last as
    /// worst.
    BestAndWorst {},
}

/// Scores that a mean or median is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScoreScope {
    /// All scores of the source.
    Source,
    /// Scores of the same prompt.
    Prompt,
}

impl Binarise {
    /// Fails if a number is out of range.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let fail = |key: &'static str, value: f64, message| {
            Err(DataError::Value { key: key.into(), value: value.to_string(), message })
        };
        match *self {
            Self::Threshold { at } if !at.is_finite() => {
                fail("source.binarise.at", at, "must be a finite number")
            }
            Self::Chance { midpoint, .. } if !midpoint.is_finite() => {
                fail("source.binarise.midpoint", midpoint, "must be a finite number")
            }
            Self::Chance { scale, .. } if !(scale.is_finite() && scale > 0.0) => {
                fail("source.binarise.scale", scale, "must be a finite number above 0")
            }
            _ => Ok(()),
        }
    }

    /// Resolves the policy. Means and medians need a pass over all scores of the source, made by
    /// `read`.
    pub(crate) fn rule(
        &self,
        seed: u64,
        read: impl FnOnce(&mut dyn RowSink) -> Result<(), DataError>,
    ) -> Result<Rule, DataError> {
        let over = match *self {
            Self::Threshold { at } => return Ok(Rule::From(at)),
            Self::Chance { midpoint, scale } => {
                return Ok(Rule::Chance { midpoint, scale, draw: Draw::new(seed, "binarise") });
            }
            Self::BestAndWorst {} => return Ok(Rule::BestAndWorst),
            Self::Mean { over } | Self::Median { over } => over,
        };
        let mut scores = ScoreCollector { over, by_prompt: HashMap::new() };
        read(&mut scores)?;
        let middle = |scores: Vec<f64>| match self {
            Self::Median { .. } => sample::median(scores),
            _ => sample::mean(scores),
        };
        let by_prompt = scores.by_prompt.into_iter();
        let mut middles: HashMap<Option<Id>, f64> =
            by_prompt.filter_map(|(prompt, scores)| Some((prompt, middle(scores)?))).collect();
        Ok(match over {
            // A source without scores has no threshold; infinity labels nothing desirable.
            ScoreScope::Source => Rule::From(middles.remove(&None).unwrap_or(f64::INFINITY)),
            ScoreScope::Prompt => Rule::FromPrompts(middles),
        })
    }
}

/// Collects scores by prompt, or all under `None`.
struct ScoreCollector {
    over: ScoreScope,
    by_prompt: HashMap<Option<Id>, Vec<f64>>,
}

impl RowSink for ScoreCollector {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        for group in rows.into_iter().flat_map(|row| row.outcome.unwrap_or_default()) {
            let scores: Vec<f64> =
                group.completions.iter().filter_map(|completion| completion.score).collect();
            if scores.is_empty() {
                continue;
            }
            let key = match self.over {
                ScoreScope::Source => None,
                ScoreScope::Prompt => Some(ids::prompt_id(&group.prompt)),
            };
            self.by_prompt.entry(key).or_default().extend(scores);
        }
        Ok(())
    }

    fn remark(&mut self, _remark: Remark, _times: u64) {}
}

/// Policy with its thresholds computed.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    From(f64),
    FromPrompts(HashMap<Option<Id>, f64>),
    Chance { midpoint: f64, scale: f64, draw: Draw },
    BestAndWorst,
}

impl Rule {
    /// Labels a group. If it has no pairs, its best and worst completions become one.
    fn label(&self, group: &mut RawGroup, remarks: &mut Vec<Remark>) {
        let extremes = extremes(group);
        let unscored = group.completions.iter().filter(|completion| completion.score.is_none());
        remarks.extend(unscored.map(|_| Remark::Noted("completion_without_score")));
        if matches!(self, Self::BestAndWorst) {
            for completion in &mut group.completions {
                completion.label = None;
            }
            group.pairs = extremes.into_iter().collect();
            if group.pairs.is_empty() {
                remarks.push(Remark::Filtered("no_best_and_worst"));
            }
            return;
        }
        let prompt_id = ids::prompt_id(&group.prompt);
        for completion in &mut group.completions {
            let Some(score) = completion.score else { continue };
            completion.label = Some(match self {
                Self::From(least) => score >= *least,
                Self::FromPrompts(least) => least.get(&Some(prompt_id)).is_some_and(|least| score >= *least),
                Self::Chance { midpoint, scale, draw } => {
                    let uniform = draw.bits(ids::row_id(prompt_id, &completion.messages).digits().as_ref())
                        as f64
                        / 2f64.powi(64);
                    uniform < 1.0 / (1.0 + ((midpoint - score) / scale).exp())
                }
                Self::BestAndWorst => continue,
            });
        }
        if group.pairs.is_empty() {
            group.pairs.extend(extremes);
        }
    }
}

/// Returns the completions with the highest and lowest score, if both their scores and their texts
/// differ.
fn extremes(group: &RawGroup) -> Option<(usize, usize)> {
    let scored =
        || group.completions.iter().enumerate().filter_map(|(index, side)| Some((index, side.score?)));
    let (best, high) = scored().reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    let (worst, low) = scored().reduce(|worst, next| if next.1 <= worst.1 { next } else { worst })?;
    let differ = group.completions.get(best)?.messages != group.completions.get(worst)?.messages;
    (high > low && differ).then_some((best, worst))
}

/// Sink that labels rows and passes them on.
pub(crate) struct Labeller<'a> {
    pub(crate) rule: &'a Rule,
    /// Groups seen so far; `scored` counts their completions that have a score.
    pub(crate) groups: u64,
    pub(crate) scored: u64,
    pub(crate) into: &'a mut dyn RowSink,
}

impl RowSink for Labeller<'_> {
    fn rows(&mut self, mut rows: Vec<RawRow>) -> Result<(), DataError> {
        for row in &mut rows {
            for group in row.outcome.iter_mut().flatten() {
                self.groups += 1;
                self.scored += group.completions.iter().filter(|side| side.score.is_some()).count() as u64;
                self.rule.label(group, &mut row.remarks);
            }
        }
        self.into.rows(rows)
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.into.remark(remark, times);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::ingest::sources::tests::{Collected, read};

    /// Two prompts: scores 1, 2, 9 and 8, 8.
    fn scored(policy: &str) -> Collected {
        let rows = [
            json!({"prompt": "p", "completions": ["a", "b", "c"], "scores": [1, 2, 9]}).to_string(),
            json!({"prompt": "q", "completions": ["d", "e"], "scores": [8, 8]}).to_string(),
        ];
        read(&format!("{{binarise: {policy}}}"), "a.jsonl", rows.join("\n").as_bytes())
    }

    fn labels(reading: &Collected) -> Vec<bool> {
        reading.groups.iter().flat_map(|group| &group.completions).filter_map(|side| side.label).collect()
    }

    #[test]
    fn thresholds_are_inclusive_and_means_and_medians_are_taken_of_what_is_said() {
        for (policy, expected) in [
            ("{by: threshold, at: 2}", [false, true, true, true, true]),
            // Over all scores, the mean is 5.6 and the median 8.
            ("{by: mean, over: source}", [false, false, true, true, true]),
            ("{by: median, over: source}", [false, false, true, true, true]),
            // By prompt, the means are 4 and 8, the medians 2 and 8.
            ("{by: mean, over: prompt}", [false, false, true, true, true]),
            ("{by: median, over: prompt}", [false, true, true, true, true]),
        ] {
            let reading = scored(policy);
            assert_eq!(labels(&reading), expected, "{policy}");
            assert_eq!(reading.groups[0].pairs, [(2, 0)], "{policy}");
            assert!(reading.groups[1].pairs.is_empty());
        }
    }

    #[test]
    fn best_and_worst_leave_the_others_out() {
        let reading = scored("{by: best_and_worst}");
        assert!(labels(&reading).is_empty());
        assert_eq!((&reading.groups[0].pairs[..], &reading.groups[1].pairs[..]), (&[(2, 0)][..], &[][..]));
        assert_eq!(reading.counts.filtered["no_best_and_worst"], 1);
    }

    #[test]
    fn chance_has_the_rate_of_its_formula_and_is_drawn_by_content() {
        let rows: Vec<String> = (0..4000)
            .map(|n| json!({"prompt": format!("p{n}"), "completion": "a", "score": 7}).to_string())
            .collect();
        let label = |rows: &[String]| {
            let source = "{binarise: {by: chance, midpoint: 5, scale: 2}}";
            labels(&read(source, "a.jsonl", rows.join("\n").as_bytes()))
        };
        let forward = label(&rows);
        // 1 / (1 + exp(-1)) = 0.7311; four standard errors are 0.028.
        let rate = forward.iter().filter(|label| **label).count() as f64 / 4000.0;
        assert!((0.703..0.759).contains(&rate), "{rate}");
        let mut backward = label(&rows.iter().rev().cloned().collect::<Vec<_>>());
        backward.reverse();
        assert_eq!(forward, backward);
    }

    #[test]
    fn pairs_of_the_source_stay_and_their_sides_are_labelled_by_score() {
        let row =
            json!({"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 9, "score_rejected": 8});
        let reading = read("{binarise: {by: threshold, at: 7}}", "a.jsonl", row.to_string().as_bytes());
        assert_eq!((labels(&reading), &reading.groups[0].pairs[..]), (vec![true, true], &[(0, 1)][..]));
    }
}
