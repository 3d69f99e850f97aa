//! Corruption of a row by noise: of its label, of its text, or of both.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Corruption of a row: at most one kind of label noise and one kind of text noise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Corruption {
    /// Kind of noise that inverted the label, if any.
    pub(crate) label: LabelNoise,
    /// Kind of noise that changed the completion, if any.
    pub(crate) text: TextNoise,
}

/// Kind of noise that inverted the label of a row.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum LabelNoise {
    /// The label is the original one.
    #[default]
    Original,
    Flip,
    Swap,
    ScoreFlip,
    LengthFlip,
    Annotator,
    Cycle,
}

/// Kind of noise that changed the completion of a row.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum TextNoise {
    /// The completion is the original one.
    #[default]
    Original,
    Shuffle,
    Truncate,
    DropWords,
}

impl Corruption {
    /// Returns whether the label is the opposite of the original one.
    pub(crate) fn is_flipped(self) -> bool {
        self.label != LabelNoise::Original
    }

    /// Returns the value of the `noise` column for rows with these corruptions: the distinct kinds
    /// joined by `+`, label noise first, or `none`.
    pub(crate) fn column_value(corruptions: &[Self]) -> Cow<'static, str> {
        let labels = corruptions.iter().filter(|corruption| corruption.is_flipped());
        let texts = corruptions.iter().filter(|corruption| corruption.text != TextNoise::Original);
        let names = labels
            .map(|corruption| corruption.label.into())
            .chain(texts.map(|corruption| corruption.text.into()));
        let mut distinct: Vec<&'static str> = Vec::new();
        for name in names {
            if !distinct.contains(&name) {
                distinct.push(name);
            }
        }
        match distinct.as_slice() {
            [] => Cow::Borrowed("none"),
            [name] => Cow::Borrowed(name),
            names => Cow::Owned(names.join("+")),
        }
    }
}
