//! Kinds of sources.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Format of a source.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
    strum::Display,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum SourceKind {
    /// Anthropic HH transcripts.
    Hh,
    /// Stanford Human Preferences.
    Shp,
    /// OpenAssistant messages or message trees.
    Oasst,
    /// Your own preference pairs.
    Pairs,
    /// Your own completions, each with a label.
    Labels,
    /// Your own completions, each with a score.
    Scores,
    /// Several completions of a prompt with ranks; rank 1 is best.
    Ranks,
    /// Two completions of a prompt, and which of them is better.
    Comparisons,
    /// Exports of chat applications: conversations whose replies have thumbs.
    Chats,
    /// Records of observability and annotation tools: judgements by name.
    Judgements,
    /// Generated feedback with known true utility.
    Synthetic,
}
