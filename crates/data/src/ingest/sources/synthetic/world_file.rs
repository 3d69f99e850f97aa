//! The `source.world` section of a recipe, with its checks.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    words::Domain,
    world::{AnnotatorGroup, CompletionPart, SyntheticWorld, Thumbs},
};
use crate::DataError;

/// The world of synthetic feedback, as written in a recipe.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorldFile {
    /// Topics of the prompts (`[home]`). Domains share asks, openings and closings; tasks and
    /// correct answers differ.
    domains: Vec<Domain>,
    /// Completions per prompt (2). All pairs of them are judged. With 1, there are no pairs, and
    /// `pairs` counts completions; each needs a thumb (`thumbs`).
    completions: usize,
    /// Annotators who judge each prompt's completions, one after the other (1). With more than one,
    /// the feedback contradicts itself.
    judgements: usize,
    /// Bradley–Terry temperature of the annotators (0.4). A completion of utility u is preferred to
    /// one of utility v with probability sigmoid((u - v) / temperature). At 0, annotators make no
    /// errors.
    temperature: f64,
    /// Groups of annotators with their shares (one group). The true utility is that of the largest
    /// group.
    annotators: Vec<AnnotatorsFile>,
    /// Thumbs up or down for each completion, used as labels of the binary rows. Pairs remain
    /// available for DPO and evaluation.
    thumbs: Option<Thumbs>,
}

/// A group of annotators, as written in a recipe.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnotatorsFile {
    /// Share of all annotators.
    share: f64,
    /// Parts of a completion whose value is inverted for this group (none).
    #[serde(default)]
    inverts: Vec<CompletionPart>,
}

impl Default for WorldFile {
    fn default() -> Self {
        Self {
            domains: vec![Domain::Home],
            completions: 2,
            judgements: 1,
            temperature: 0.4,
            annotators: vec![AnnotatorsFile { share: 1.0, inverts: Vec::new() }],
            thumbs: None,
        }
    }
}

/// Tolerance for the sum of shares.
const SLACK: f64 = 1e-9;

impl WorldFile {
    /// Checks the values for the requested number of `pairs`.
    pub(crate) fn check(&self, pairs: usize) -> Result<(), DataError> {
        let check = |holds: bool, key: &'static str, value: String, message: &'static str| {
            if holds { Ok(()) } else { Err(DataError::Value { key: key.into(), value, message }) }
        };
        let domains = &self.domains;
        let twice = (1..domains.len()).any(|index| domains[..index].contains(&domains[index]));
        check(
            !domains.is_empty() && !twice,
            "source.world.domains",
            format!("{:?}", domains.iter().map(|domain| <&str>::from(*domain)).collect::<Vec<_>>()),
            "must list one or more of home, medical, legal and technical, each at most once",
        )?;
        check(
            (1..=6).contains(&self.completions),
            "source.world.completions",
            self.completions.to_string(),
            "must be a number from 1 to 6",
        )?;
        check(
            self.completions > 1 || self.thumbs.is_some(),
            "source.world.completions",
            self.completions.to_string(),
            "a single completion cannot be compared, so it needs a thumb: set `source.world.thumbs`",
        )?;
        check(
            pairs.is_multiple_of(pairs_of(self.completions)),
            "source.pairs",
            pairs.to_string(),
            "all pairs of a prompt's completions are judged: must be a multiple of 3 for 3 completions, of 6 for 4, of 10 \
             for 5 and of 15 for 6",
        )?;
        check(
            self.judgements > 0,
            "source.world.judgements",
            self.judgements.to_string(),
            "must be at least 1",
        )?;
        check(
            self.temperature.is_finite() && self.temperature >= 0.0,
            "source.world.temperature",
            self.temperature.to_string(),
            "must be a number of at least 0",
        )?;
        let threshold = self.thumbs.unwrap_or_default().threshold;
        check(
            threshold.is_finite(),
            "source.world.thumbs.threshold",
            threshold.to_string(),
            "must be a finite number (a utility)",
        )?;
        self.check_annotators()
    }

    fn check_annotators(&self) -> Result<(), DataError> {
        let shares: Vec<f64> = self.annotators.iter().map(|group| group.share).collect();
        let fail = |message| {
            let (key, value) = ("source.world.annotators".into(), format!("{shares:?}"));
            Err(DataError::Value { key, value, message })
        };
        if !shares.iter().all(|share| *share > 0.0) || (shares.iter().sum::<f64>() - 1.0).abs() > SLACK {
            return fail("shares must be above 0 and add up to 1");
        }
        let most = shares.iter().copied().fold(0.0, f64::max);
        if shares.iter().filter(|share| most - **share < SLACK).count() > 1 {
            return fail("one group must be larger than all others: its utility is the truth");
        }
        let twice =
            |parts: &[CompletionPart]| (1..parts.len()).any(|index| parts[..index].contains(&parts[index]));
        if self.annotators.iter().any(|group| twice(&group.inverts)) {
            return fail("`inverts` lists a part twice; remove one");
        }
        Ok(())
    }

    /// Converts the checked settings into a world.
    pub(crate) fn resolve(self) -> SyntheticWorld {
        let groups = self.annotators.into_iter();
        let mut annotators: Vec<_> =
            groups.map(|group| AnnotatorGroup { share: group.share, inverts: group.inverts }).collect();
        annotators.sort_by(|a, b| b.share.total_cmp(&a.share));
        SyntheticWorld {
            domains: self.domains,
            completions: self.completions,
            judgements: self.judgements,
            temperature: self.temperature,
            annotators,
            thumbs: self.thumbs,
        }
    }
}

/// Returns the number of pairs among `completions` completions; 1 for a single completion, which is
/// judged on its own.
pub(super) fn pairs_of(completions: usize) -> usize {
    (completions * completions.saturating_sub(1) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str) -> Result<(), String> {
        let document = prospect_core::config::Document::from_text("world.yaml", yaml).unwrap();
        let world: WorldFile = document.read().map_err(|error| error.to_string())?;
        world.check(60).map_err(|error| error.to_string())
    }

    #[test]
    fn what_makes_no_world_is_refused() {
        for (yaml, complaint) in [
            ("domains: []", "`source.world.domains` is []"),
            ("domains: [home, home]", "each at most once"),
            ("domains: [sports]", "unknown variant `sports`"),
            ("completions: 0", "`source.world.completions` is 0"),
            ("completions: 1", "set `source.world.thumbs`"),
            ("completions: 6\ntemperature: -1", "`source.world.temperature` is -1"),
            ("judgements: 0", "`source.world.judgements` is 0"),
            ("annotators: []", "add up to 1"),
            ("annotators: [{share: 0.6}, {share: 0.3}]", "add up to 1"),
            ("annotators: [{share: 0.5}, {share: 0.5}]", "one group must be larger"),
            ("annotators: [{share: 1, inverts: [content, content]}]", "a part twice"),
            ("thumbs: {threshold: .nan}", "`source.world.thumbs.threshold` is NaN"),
            ("thumbs: {treshold: 1}", "did you mean `threshold`"),
        ] {
            let error = check(yaml).unwrap_err();
            assert!(error.contains(complaint), "{yaml}: {error}");
        }
        assert!(
            check("completions: 4\nannotators: [{share: 0.4, inverts: [opening]}, {share: 0.6}]").is_ok()
        );
        assert!(WorldFile { completions: 3, ..WorldFile::default() }.check(100).is_err());
    }
}
