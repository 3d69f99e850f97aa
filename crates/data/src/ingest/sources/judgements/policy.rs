//! From the judgements of a record to one: choice by name, and the policy for several.

use super::{ANY, Judgement, Judgements, Meaning, Several};
use crate::ingest::{
    raw::{Flaw, Remark},
    sources::{
        columns::{FoundValue, RecordField, score},
        comparisons::Outcome,
    },
};

/// Settled judgement of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Judged {
    Nothing,
    Thumb(bool),
    Score(f64),
    Verdict(Outcome),
}

impl Judgements {
    /// Settles the judgements of a record, and remarks on those that are left out.
    pub(super) fn judge(&self, all: &[Judgement], remarks: &mut Vec<Remark>) -> Result<Judged, Flaw> {
        let mut left_out = None;
        let mut given: Vec<&Judgement> = Vec::new();
        for judgement in all {
            let why = if judgement.name != ANY && !self.names.contains(&judgement.name) {
                Some("other_judgement")
            } else if judgement.by_machine && !self.machines {
                Some("machine_judgement")
            } else if judgement.unanswered.is_some() {
                judgement.unanswered
            } else if judgement.value.is_null() {
                Some("no_judgement")
            } else {
                None
            };
            match why {
                // Report the reason closest to a usable judgement.
                Some(why) if left_out.is_none() || left_out == Some("other_judgement") => {
                    left_out = Some(why);
                }
                Some(_) => {}
                None => given.push(judgement),
            }
        }
        let judged = match self.meaning {
            Meaning::Score => mean(&given)?,
            Meaning::Thumb => {
                let mut labels = Vec::new();
                for judgement in &given {
                    match self.thumb(judgement)? {
                        Ok(label) => labels.push(label),
                        Err(why) => left_out = Some(why),
                    }
                }
                settle(&labels, self.several).map(|label| label.map_or(Judged::Nothing, Judged::Thumb))
            }
            Meaning::Verdict => {
                let names = [RecordField::First, RecordField::Second].map(|side| self.columns.mapping(side));
                let outcomes = given
                    .iter()
                    .map(|given| Ok(self.better.verdict(&given.name, &given.value, names)?.outcome))
                    .collect::<Result<Vec<_>, Flaw>>()?;
                settle(&outcomes, self.several)
                    .map(|outcome| outcome.map_or(Judged::Nothing, Judged::Verdict))
            }
        };
        match judged {
            Err(Conflicting) => {
                remarks.push(Remark::Filtered("conflicting"));
                Ok(Judged::Nothing)
            }
            Ok(Judged::Nothing) => {
                remarks.push(Remark::Filtered(left_out.unwrap_or("no_judgement")));
                Ok(Judged::Nothing)
            }
            Ok(judged) => Ok(judged),
        }
    }

    /// Returns the label of a judgement, or the reason why it has none.
    fn thumb(&self, judgement: &Judgement) -> Result<Result<bool, &'static str>, Flaw> {
        match self.words.read(FoundValue { name: &judgement.name, value: &judgement.value }) {
            Ok(thumb) => Ok(thumb.label.ok_or("no_judgement")),
            Err(flaw) => judgement.unknown.map(Err).ok_or(flaw),
        }
    }
}

/// Several judgements that do not agree.
struct Conflicting;

fn settle<T: Copy + PartialEq>(values: &[T], several: Several) -> Result<Option<T>, Conflicting> {
    let Some(first) = values.first().copied() else { return Ok(None) };
    if values.iter().all(|value| *value == first) {
        return Ok(Some(first));
    }
    let votes = |value: &T| values.iter().filter(|other| *other == value).count();
    let most = values.iter().map(votes).max().unwrap_or_default();
    let winners: Vec<T> = values.iter().copied().filter(|value| votes(value) == most).collect();
    match (several, winners.first()) {
        (Several::Majority, Some(winner)) if winners.iter().all(|other| other == winner) => Ok(Some(*winner)),
        _ => Err(Conflicting),
    }
}

fn mean(given: &[&Judgement]) -> Result<Result<Judged, Conflicting>, Flaw> {
    let mut scores = Vec::new();
    for judgement in given {
        let value = judgement.number.as_ref().unwrap_or(&judgement.value);
        scores.extend(score(FoundValue { name: &judgement.name, value })?);
    }
    let mean = prospect_core::sample::mean(scores);
    Ok(Ok(mean.map_or(Judged::Nothing, Judged::Score)))
}
