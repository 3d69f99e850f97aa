//! True utility of completions, and the annotators who judge them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::words::{CLOSINGS, Domain, OPENINGS, Topic, VAGUE};

/// Part of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompletionPart {
    /// Opening: politeness.
    Opening,
    /// Content: correctness for the topic.
    Content,
    /// Closing: friendliness.
    Closing,
}

impl CompletionPart {
    const ALL: [Self; 3] = [Self::Opening, Self::Content, Self::Closing];

    /// Weight in tenths of utility.
    fn weight(self) -> i32 {
        match self {
            Self::Opening => 10,
            Self::Content => 15,
            Self::Closing => 2,
        }
    }
}

/// Rule for thumbs up or down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thumbs {
    /// Threshold (0). The thumb is up with probability sigmoid((utility - threshold) /
    /// temperature).
    pub threshold: f64,
}

/// Kinds (+1, 0 or -1) of opening, content and closing.
pub(super) type Kinds = [i32; 3];

/// Annotators who share a utility function.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnnotatorGroup {
    /// Share of all annotators.
    pub share: f64,
    /// Parts whose value is inverted for this group.
    pub inverts: Vec<CompletionPart>,
}

impl AnnotatorGroup {
    /// Returns the group's utility in tenths, an exact integer.
    pub(super) fn utility(&self, kinds: Kinds) -> i32 {
        CompletionPart::ALL
            .into_iter()
            .zip(kinds)
            .map(|(part, kind)| if self.inverts.contains(&part) { -kind } else { kind } * part.weight())
            .sum()
    }
}

/// World that feedback is generated from: topics, annotators and how they judge.
///
/// A prompt is `ASK TASK EXTRA ?`, for example `how do i bake bread at home ?`. A completion is
/// `OPENING CONTENT. CLOSING`, for example `sure, use a hot oven. good luck`:
///
/// | part | +1 | 0 | -1 | weight |
/// |---|---|---|---|---|
/// | opening | polite (`sure,`) | neutral (`well,`) | rude (`ugh,`) | 1.0 |
/// | content | right for the task | vague (`it depends`) | right for another task | 1.5 |
/// | closing | kind (`good luck`) | none | curt (`bye`) | 0.2 |
///
/// The utility of a completion is the weighted sum of its parts. The true utility is that of the
/// largest group of annotators.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SyntheticWorld {
    pub(super) domains: Vec<Domain>,
    pub(super) completions: usize,
    pub(super) judgements: usize,
    pub(super) temperature: f64,
    /// Groups of annotators, largest first; never empty.
    pub(super) annotators: Vec<AnnotatorGroup>,
    pub(super) thumbs: Option<Thumbs>,
}

impl SyntheticWorld {
    /// Returns the true utility of any text as a completion of a prompt, or None if the prompt
    /// contains no known task.
    ///
    /// Each part is scored on its own. The opening ends with the first comma, the content with the
    /// next full stop; the closing is the rest. White space around parts is ignored. A part that is
    /// not a phrase of the grammar counts as its worst kind (-1). So a partly well-formed text gets
    /// credit for its valid parts, a text without any gets the minimum, and none scores above the
    /// best completion of the grammar.
    pub fn utility(&self, prompt: &str, completion: &str) -> Option<f64> {
        let topic = topic_of(prompt)?;
        self.annotators.first().map(|majority| f64::from(majority.utility(kinds(topic, completion))) / 10.0)
    }

    /// Returns the lowest and the highest possible utility.
    pub fn range(&self) -> (f64, f64) {
        let most = f64::from(CompletionPart::ALL.map(CompletionPart::weight).iter().sum::<i32>()) / 10.0;
        (-most, most)
    }
}

pub(super) fn topic_of(prompt: &str) -> Option<&'static Topic> {
    Domain::ALL.into_iter().flat_map(Domain::topics).find(|topic| prompt.contains(topic.task))
}

/// Returns the kinds of a completion's parts.
pub(super) fn kinds(topic: &Topic, completion: &str) -> Kinds {
    let (opening, rest) = completion.find(',').map_or(("", completion), |at| completion.split_at(at + 1));
    let (content, closing) = rest.split_once('.').unwrap_or((rest, ""));
    let among = |phrases: &[[&str; 3]; 3], said: &str| {
        let said = said.trim();
        let kind = phrases.iter().position(|phrases| phrases.iter().any(|phrase| phrase.trim() == said));
        kind.map_or(-1, |kind| [1, 0, -1][kind])
    };
    let content = match content.trim() {
        said if topic.right.contains(&said) => 1,
        said if VAGUE.contains(&said) => 0,
        _ => -1,
    };
    [among(&OPENINGS, opening), content, among(&CLOSINGS, closing)]
}

#[cfg(test)]
mod tests {
    use super::{super::WorldFile, *};

    const PROMPT: &str = "how do i bake bread at home ?";

    #[test]
    fn every_part_has_its_own_credit() {
        let world = WorldFile::default().resolve();
        for (completion, utility) in [
            ("sure, use a hot oven. good luck", 2.7),
            ("  sure,use a hot oven.good luck \n", 2.7),
            ("well, it depends.", 0.0),
            ("well, it depends", 0.0),
            ("ugh, plant the seeds. bye", -2.7),
            ("sure, plant the seeds.", -0.5),
            ("sure, use a hot oven. good luck. good luck", 2.3),
            ("sure, use a hot ov", -0.5),
            ("use a hot oven. good luck", 0.7),
            ("sure,", -0.5),
            ("sure, sure, use a hot oven.", -0.5),
            ("xx xx. xx", -2.7),
            ("", -2.5),
        ] {
            assert_eq!(world.utility(PROMPT, completion), Some(utility), "{completion}");
            let (least, most) = world.range();
            assert!((least..=most).contains(&utility));
        }
        assert_eq!(world.utility("how are you ?", "sure, use a hot oven."), None);
        assert_eq!(world.utility("best way to sue a firm fast ?", "sure, file a claim."), Some(2.5));
    }

    #[test]
    fn the_truth_is_what_the_largest_group_holds() {
        let group =
            |share: f64, inverts: &[CompletionPart]| AnnotatorGroup { share, inverts: inverts.to_vec() };
        let minority = group(0.4, &[CompletionPart::Opening, CompletionPart::Closing]);
        assert_eq!(minority.utility([1, 1, 1]), 3);
        let world =
            SyntheticWorld { annotators: vec![group(0.6, &[]), minority], ..WorldFile::default().resolve() };
        assert_eq!(world.utility(PROMPT, "sure, use a hot oven. good luck"), Some(2.7));
    }
}
