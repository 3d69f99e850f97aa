//! HH's transcripts: turns begin with a blank line and `Human:` or `Assistant:`.

use crate::Message;

/// Transcript split before its last assistant turn.
#[derive(Debug)]
pub(crate) struct Transcript {
    /// Turns before the last assistant turn.
    pub(crate) prompt: Vec<Message>,
    /// Text of the last assistant turn.
    pub(crate) completion: String,
    /// True if more than the single space after a marker was trimmed from any turn.
    pub(crate) trimmed: bool,
}

/// Reason why a text is not a valid transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TranscriptFlaw {
    NoAssistantTurn,
    TextBeforeFirstTurn,
    HumanTurnLast,
}

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// Parses a transcript. Only a marker after a blank line starts a turn; `Human:` inside a turn is
/// text.
pub(crate) fn parse(text: &str) -> Result<Transcript, TranscriptFlaw> {
    let mut starts: Vec<(usize, &str)> =
        text.match_indices(HUMAN).chain(text.match_indices(ASSISTANT)).collect();
    starts.sort_unstable();
    if !starts.iter().any(|(_, marker)| *marker == ASSISTANT) {
        return Err(TranscriptFlaw::NoAssistantTurn);
    }
    if starts.first().is_some_and(|(start, _)| !text[..*start].trim().is_empty()) {
        return Err(TranscriptFlaw::TextBeforeFirstTurn);
    }
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
    let mut trimmed = false;
    let mut turns = Vec::with_capacity(starts.len());
    for ((start, marker), end) in starts.iter().zip(ends) {
        let content = &text[start + marker.len()..end];
        let content = content.strip_prefix(' ').unwrap_or(content);
        trimmed |= content.trim() != content;
        let content = content.trim();
        turns.push(if *marker == HUMAN { Message::user(content) } else { Message::assistant(content) });
    }
    match turns.pop() {
        Some(last) if last.role == "assistant" => {
            Ok(Transcript { prompt: turns, completion: last.content, trimmed })
        }
        _ => Err(TranscriptFlaw::HumanTurnLast),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn splits_at_the_last_assistant_marker_and_trims() {
        let parsed = parse("\n\nHuman: a\n\n\n\nAssistant: b \n\nHuman:c\n\nAssistant:  d\n\n e\n").unwrap();
        assert_eq!(parsed.prompt, [Message::user("a"), Message::assistant("b"), Message::user("c")]);
        assert_eq!(parsed.completion, "d\n\n e");
        assert!(parsed.trimmed);
        assert!(!parse("\n\nHuman: a\n\nAssistant: b").unwrap().trimmed);
    }

    #[test]
    fn inline_markers_are_text() {
        let parsed = parse("\n\nHuman: x.  Human: y\nAssistant: z\n\nAssistant: b").unwrap();
        assert_eq!(parsed.prompt, [Message::user("x.  Human: y\nAssistant: z")]);
    }

    #[test]
    fn flaws_are_told_apart() {
        assert_eq!(parse("").unwrap_err(), TranscriptFlaw::NoAssistantTurn);
        assert_eq!(parse("\n\nHuman: a").unwrap_err(), TranscriptFlaw::NoAssistantTurn);
        assert_eq!(parse("hi\n\nAssistant: a").unwrap_err(), TranscriptFlaw::TextBeforeFirstTurn);
        assert_eq!(parse("Human: hi\n\nAssistant: a").unwrap_err(), TranscriptFlaw::TextBeforeFirstTurn);
        assert_eq!(parse("\n\nAssistant: a\n\nHuman: b").unwrap_err(), TranscriptFlaw::HumanTurnLast);
    }

    proptest! {
        #[test]
        fn any_text_parses_or_has_a_flaw(parts in proptest::collection::vec("\n|Human:|\n\nHuman:|\n\nAssistant:|é| |\\PC", 0..20)) {
            if let Ok(transcript) = parse(&parts.concat()) {
                prop_assert_eq!(transcript.completion.trim(), &transcript.completion);
            }
        }
    }
}
