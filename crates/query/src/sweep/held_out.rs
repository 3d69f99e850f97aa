//! Held-out pairs and thumbs under the trained policies.

use prospect_runs::{PairOutcome, RunDir, ThumbOutcome};

use super::{Of, run_column};
use crate::{
    QueryError,
    table::{RowColumn, Signed, Table},
};

/// A held-out pair or thumb, with the β of its run.
struct HeldOutRow {
    /// Factor from log-ratios to rewards; 1 for objectives without β.
    beta: f64,
    outcome: PairOrThumb,
}

enum PairOrThumb {
    Pair(PairOutcome),
    Thumb(ThumbOutcome),
}

impl HeldOutRow {
    fn pair(&self) -> Option<&PairOutcome> {
        match &self.outcome {
            PairOrThumb::Pair(pair) => Some(pair),
            PairOrThumb::Thumb(_) => None,
        }
    }

    fn thumb(&self) -> Option<&ThumbOutcome> {
        match &self.outcome {
            PairOrThumb::Pair(_) => None,
            PairOrThumb::Thumb(thumb) => Some(thumb),
        }
    }

    /// Returns the text of the field that both have.
    fn shared(&self, pair: fn(&PairOutcome) -> &String, thumb: fn(&ThumbOutcome) -> &String) -> String {
        match &self.outcome {
            PairOrThumb::Pair(outcome) => pair(outcome).clone(),
            PairOrThumb::Thumb(outcome) => thumb(outcome).clone(),
        }
    }
}

/// Makes a column of numbers that only pairs have.
fn of_pairs(
    name: &str,
    meaning: &str,
    value: fn(f64, &PairOutcome) -> Option<f64>,
) -> RowColumn<Of<HeldOutRow>> {
    RowColumn::optional_number(name, meaning, move |of: &Of<HeldOutRow>| {
        value(of.record.beta, of.record.pair()?)
    })
}

/// Makes a column of numbers that only thumbs have.
fn of_thumbs(
    name: &str,
    meaning: &str,
    value: fn(f64, &ThumbOutcome) -> Option<f64>,
) -> RowColumn<Of<HeldOutRow>> {
    RowColumn::optional_number(name, meaning, move |of: &Of<HeldOutRow>| {
        value(of.record.beta, of.record.thumb()?)
    })
}

/// Returns the table of held-out pairs and thumbs.
pub(super) fn held_out(dirs: Vec<RunDir>) -> Table {
    let columns = vec![
        run_column(),
        RowColumn::text("kind", "`pair`, or `thumb` for a labelled completion", |of: &Of<HeldOutRow>| {
            if of.record.pair().is_some() { "pair" } else { "thumb" }.to_owned()
        }),
        RowColumn::text(
            "id",
            "`pair_id` of a pair in `pairs`, `id` of a thumb in `rows`",
            |of: &Of<HeldOutRow>| of.record.shared(|pair| &pair.pair_id, |thumb| &thumb.id),
        ),
        RowColumn::text("prompt_id", "Hash of the prompt, as in the dataset", |of: &Of<HeldOutRow>| {
            of.record.shared(|pair| &pair.prompt_id, |thumb| &thumb.prompt_id)
        }),
        RowColumn::text("source", "Kind of source", |of: &Of<HeldOutRow>| {
            of.record.shared(|pair| &pair.source, |thumb| &thumb.source)
        }),
        RowColumn::text("domain", "Domain within the source", |of: &Of<HeldOutRow>| {
            of.record.shared(|pair| &pair.domain, |thumb| &thumb.domain)
        }),
        RowColumn::optional_text(
            "group",
            "Salted hash of the user or conversation, if the data has groups",
            |of: &Of<HeldOutRow>| match &of.record.outcome {
                PairOrThumb::Pair(pair) => pair.group.clone(),
                PairOrThumb::Thumb(thumb) => thumb.group.clone(),
            },
        ),
        of_pairs(
            "accuracy",
            "Pairs: 1 if the policy prefers the chosen completion, ½ for a tie, else 0",
            |_, pair| Some(pair.accuracy()),
        ),
        of_pairs(
            "margin",
            "Pairs: reward of the chosen completion minus that of the rejected one, in nats",
            |beta, pair| Some(beta * (pair.chosen - pair.rejected)),
        ),
        of_pairs("reward_chosen", "Pairs: β·log-ratio of the chosen completion, in nats", |beta, pair| {
            Some(beta * pair.chosen)
        }),
        of_pairs(
            "reward_rejected",
            "Pairs: β·log-ratio of the rejected completion, in nats",
            |beta, pair| Some(beta * pair.rejected),
        ),
        of_pairs("log_ratio_chosen", "Pairs: log π/π_ref of the chosen completion, in nats", |_, pair| {
            Some(pair.chosen)
        }),
        of_pairs(
            "log_ratio_rejected",
            "Pairs: log π/π_ref of the rejected completion, in nats",
            |_, pair| Some(pair.rejected),
        ),
        of_pairs(
            "own_score_chosen",
            "Pairs: score that an objective without reference ranks by, chosen completion",
            |_, pair| pair.own_scores.map(|[chosen, _]| chosen),
        ),
        of_pairs("own_score_rejected", "Pairs: the same for the rejected completion", |_, pair| {
            pair.own_scores.map(|[_, rejected]| rejected)
        }),
        RowColumn::optional_boolean("desirable", "Thumbs: true for thumbs up", |of: &Of<HeldOutRow>| {
            of.record.thumb().map(|thumb| thumb.desirable)
        }),
        of_thumbs("reward", "Thumbs: β·log-ratio of the completion, in nats", |beta, thumb| {
            Some(beta * thumb.log_ratio)
        }),
        of_thumbs("log_ratio", "Thumbs: log π/π_ref of the completion, in nats", |_, thumb| {
            Some(thumb.log_ratio)
        }),
        of_thumbs("probability", "Thumbs: calibrated probability of a thumb up", |_, thumb| {
            thumb.probability
        }),
        RowColumn::optional_integer("tokens", "Thumbs: tokens of the completion", |of: &Of<HeldOutRow>| {
            of.record.thumb().map(|thumb| thumb.tokens.signed())
        }),
    ];
    Table::of_rows("heldout", "A held-out pair or thumb under a trained policy", columns, move || {
        let mut records = Vec::new();
        for dir in &dirs {
            records.extend(outcomes(dir)?.into_iter().map(|record| Of { run: dir.id(), record }));
        }
        Ok::<_, QueryError>(records)
    })
}

/// Reads the held-out pairs, then the thumbs of a run.
fn outcomes(dir: &RunDir) -> Result<Vec<HeldOutRow>, QueryError> {
    let (pairs, thumbs) = (dir.pairs()?, dir.thumbs()?);
    if pairs.is_empty() && thumbs.is_empty() {
        return Ok(Vec::new());
    }
    let beta = dir.beta()?.unwrap_or(1.0);
    let outcomes = pairs.into_iter().map(PairOrThumb::Pair).chain(thumbs.into_iter().map(PairOrThumb::Thumb));
    Ok(outcomes.map(|outcome| HeldOutRow { beta, outcome }).collect())
}
