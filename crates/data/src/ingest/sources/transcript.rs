//! Transcripts: conversations as one text, with the speaker before each turn.
//!
//! In HH's transcripts ([`parse`]), turns begin with a blank line and `Human:` or `Assistant:`. In
//! other tables, prompts and whole conversations may be transcripts too, also with other names
//! ([`turns`]).

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
    // Line breaks are found faster than the markers.
    let marker = |(start, _): (usize, &str)| {
        let marker = [HUMAN, ASSISTANT].into_iter().find(|marker| text[start..].starts_with(marker))?;
        Some((start, marker))
    };
    let starts: Vec<(usize, &str)> = text.match_indices('\n').filter_map(marker).collect();
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

/// Names of the user before a turn, in any case.
const USERS: [&str; 3] = ["human", "user", "prompter"];

/// Speaker's name at the beginning of a line.
struct Marker {
    /// Offset of the line.
    start: usize,
    /// Offset of the turn's text.
    text: usize,
    is_assistant: bool,
    /// True if the line is the first or follows a blank one.
    after_blank: bool,
}

/// Splits a transcript into turns; None if the text is no transcript.
///
/// A transcript begins with the name of the user and has a turn of the assistant, which may be the
/// empty one at the end that a prompt leaves to complete. Turns begin after a blank line, as that
/// empty turn does; if it begins at another line, so do the others. A text with a single turn is a
/// transcript only if it could hardly be anything else.
pub(crate) fn turns(text: &str) -> Option<Vec<Message>> {
    if text.contains(HELPSTEER) {
        return helpsteer(text);
    }
    speaker(text.trim_start()).filter(|(is_assistant, _)| !is_assistant)?;
    let mut markers = markers(text);
    let first =
        markers.first().filter(|first| !first.is_assistant && text[..first.start].trim().is_empty())?;
    if !markers.iter().any(|marker| marker.is_assistant) {
        let certain = text.starts_with("\n\n") || text[first.start..].starts_with("prompter");
        return certain.then(|| vec![Message::user(text[first.text..].trim())]);
    }
    let open = markers.last().filter(|last| last.is_assistant && text[last.text..].trim().is_empty());
    let blank_lines = open.map_or_else(
        || markers.iter().any(|marker| marker.is_assistant && marker.after_blank),
        |open| open.after_blank,
    );
    if blank_lines {
        markers.retain(|marker| marker.after_blank);
    } else if open.is_none() {
        return None;
    }
    let ends = markers.iter().skip(1).map(|marker| marker.start).chain([text.len()]);
    let mut turns: Vec<Message> = markers
        .iter()
        .zip(ends)
        .map(|(marker, end)| {
            let turn = if marker.is_assistant { Message::assistant } else { Message::user };
            turn(text[marker.text..end].trim())
        })
        .collect();
    turns.pop_if(|last| last.role == "assistant" && last.content.is_empty());
    Some(turns)
}

/// Marker before each turn but the first in HelpSteer2, with the speaker on the same line.
const HELPSTEER: &str = "<extra_id_1>";

/// Splits a prompt of HelpSteer2, which begins with the user's first turn.
fn helpsteer(text: &str) -> Option<Vec<Message>> {
    let mut parts = text.split(HELPSTEER);
    let first = Message::user(parts.next()?.trim());
    let rest = parts.map(|part| {
        let (speaker, turn) = part.split_once('\n')?;
        match speaker.trim() {
            "User" => Some(Message::user(turn.trim())),
            "Assistant" => Some(Message::assistant(turn.trim())),
            _ => None,
        }
    });
    std::iter::once(Some(first)).chain(rest).collect()
}

/// Returns true if the text ends with the name of the assistant, as a prompt to complete does.
pub(crate) fn is_open(text: &str) -> bool {
    const END: &[u8] = b"assistant:";
    let text = text.trim_end().as_bytes();
    text.last_chunk::<10>().is_some_and(|end| end.eq_ignore_ascii_case(END))
}

/// Returns the text after the assistant's name, if the text begins with it.
pub(crate) fn without_assistant(text: &str) -> Option<&str> {
    let (is_assistant, rest) = speaker(text.trim_start())?;
    is_assistant.then_some(rest)
}

fn markers(text: &str) -> Vec<Marker> {
    let mut markers = Vec::new();
    let (mut start, mut after_blank) = (0, true);
    for line in text.split_inclusive('\n') {
        if let Some((is_assistant, rest)) = speaker(line) {
            markers.push(Marker { start, text: start + line.len() - rest.len(), is_assistant, after_blank });
        }
        after_blank = line.trim().is_empty();
        start += line.len();
    }
    markers
}

/// Returns true for the assistant and the rest of the text, if it begins with a speaker's name.
fn speaker(text: &str) -> Option<(bool, &str)> {
    let (name, rest) = text.strip_prefix("### ").unwrap_or(text).split_once(':')?;
    if name.eq_ignore_ascii_case("assistant") {
        return Some((true, rest));
    }
    USERS.iter().any(|user| name.eq_ignore_ascii_case(user)).then_some((false, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prompts_that_are_transcripts_are_split_into_turns() {
        let expected = [Message::user("a"), Message::assistant("b"), Message::user("c\nd")];
        for text in [
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\nd\n\nAssistant:",
            "Human: a\n\nAssistant: b\n\nHuman: c\nd",
            "prompter: a\n\nassistant: b\n\nprompter: c\nd\n\nassistant:",
            "User: a\nAssistant: b\nUser: c\nd\nAssistant: ",
            "### Human: a\n### Assistant: b\n### Human: c\nd\n### Assistant:",
            "USER: a\r\n\r\nASSISTANT: b\r\n\r\nUSER: c\nd",
        ] {
            assert_eq!(turns(text).unwrap(), expected, "{text:?}");
        }
        assert_eq!(turns("\n\nHuman: a").unwrap(), [Message::user("a")]);
        assert_eq!(turns("prompter: a").unwrap(), [Message::user("a")]);
        let whole = turns("\n\nHuman: a\n\nAssistant: b").unwrap();
        assert_eq!(whole, [Message::user("a"), Message::assistant("b")]);
        assert_eq!(without_assistant("\n\nAssistant: b"), Some(" b"));
        assert_eq!(without_assistant("Assistants: b"), None);
    }

    #[test]
    fn texts_that_mention_speakers_are_no_transcripts() {
        for text in [
            "",
            "How do I look after it?",
            "Human: the study of people",
            "Summarise:\n\nHuman: a\n\nAssistant: b",
            "Human: hi\nAssistant: hello\nSummarise the above.",
            "Assistant: a\n\nHuman: b",
            "Humans: a\n\nAssistant: b",
        ] {
            assert_eq!(turns(text), None, "{text:?}");
        }
        let inline = turns("Human: x\nHuman: y\n\nAssistant: z").unwrap();
        assert_eq!(inline[0], Message::user("x\nHuman: y"));
    }

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
