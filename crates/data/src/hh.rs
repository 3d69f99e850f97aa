//! Anthropic's HH: one JSON object a line, `{"chosen": TRANSCRIPT, "rejected": TRANSCRIPT}`.
//!
//! Each side is split at its own last assistant turn (see [`transcript`]), and the two
//! prompts must then be equal. Splitting at the longest common prefix would move the shared beginning of two
//! completions into the prompt, and slicing one side by the length of the other's prompt would cut words.
//! Numbers `score_chosen` and `score_rejected` are kept where a line has them; other keys are ignored.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use prospect_core::files::hash_file;
use serde::{Deserialize, Serialize};

use crate::{
    DataError, InputFile, Message, Split,
    lines::for_each_line,
    raw::{Flaw, RawCompletion, RawGroup, RawRow, Reason, Remark, Sink},
    source::Source,
    transcript::{self, Transcript},
};

/// HH files, found and hashed.
#[derive(Debug, Clone, Serialize)]
pub struct Hh {
    /// What the `source` column says.
    name: String,
    /// What the `domain` column says.
    domain: String,
    files: Vec<HhFile>,
}

/// One file of transcripts. Its place is not part of what names the dataset, its content is.
#[derive(Debug, Clone, Serialize)]
struct HhFile {
    #[serde(skip)]
    path: PathBuf,
    split: Option<Split>,
    blake3: String,
}

impl HhFile {
    fn open(path: PathBuf, split: Option<Split>) -> Result<Self, DataError> {
        let blake3 = hash_file(&path)?;
        Ok(Self { path, split, blake3 })
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Hh {
    /// Finds and hashes the files at `path`: one file, or a folder with `train.jsonl` and `test.jsonl`, either
    /// with `.gz` after it.
    pub(crate) fn resolve(path: &Path, name: String, domain: String) -> Result<Self, DataError> {
        let files = if path.is_dir() {
            Split::ALL
                .into_iter()
                .map(|split| HhFile::open(find(path, split)?, Some(split)))
                .collect::<Result<_, _>>()?
        } else {
            vec![HhFile::open(path.to_owned(), None)?]
        };
        Ok(Self { name, domain, files })
    }
}

/// The one file of a split in a folder.
fn find(folder: &Path, split: Split) -> Result<PathBuf, DataError> {
    let names = [format!("{split}.jsonl"), format!("{split}.jsonl.gz")];
    let fail = |what: &str| DataError::Folder {
        folder: folder.to_owned(),
        message: format!("holds {what} {} and {}; exactly one is needed", names[0], names[1]),
    };
    let mut found = names.iter().map(|name| folder.join(name)).filter(|path| path.exists());
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        (Some(_), Some(_)) => Err(fail("both")),
        _ => Err(fail("neither of")),
    }
}

impl Source for Hh {
    fn has_splits(&self) -> bool {
        self.files.iter().any(|file| file.split.is_some())
    }

    fn read(&self, _dataset: &Path, into: &mut dyn Sink) -> Result<(), DataError> {
        let (source, domain): (Arc<str>, Arc<str>) = (self.name.as_str().into(), self.domain.as_str().into());
        for file in &self.files {
            let name: Arc<str> = file.name().into();
            let notes = for_each_line(&file.path, |line, bytes| {
                let mut remarks = Vec::new();
                let outcome = parse(bytes).map(|parsed| {
                    remarks = parsed.remarks();
                    vec![parsed.group(file.split, &source, &domain)]
                });
                into.rows(vec![RawRow { file: name.clone(), line, outcome, remarks }])
            })?;
            into.remark(Remark::Repaired("byte_order_mark"), notes.byte_order_mark.into());
            into.remark(Remark::Repaired("blank_line"), notes.blank_lines);
        }
        Ok(())
    }

    fn inputs(&self, _dataset: &Path) -> Result<Vec<InputFile>, DataError> {
        let input =
            |file: &HhFile| InputFile { name: file.name(), split: file.split, blake3: file.blake3.clone() };
        Ok(self.files.iter().map(input).collect())
    }
}

#[derive(Deserialize)]
struct Line {
    chosen: String,
    rejected: String,
    score_chosen: Option<f64>,
    score_rejected: Option<f64>,
}

#[derive(Debug)]
struct Parsed {
    prompt: Vec<Message>,
    chosen: RawCompletion,
    rejected: RawCompletion,
    trimmed: bool,
}

impl Parsed {
    fn remarks(&self) -> Vec<Remark> {
        let completion_role = self.chosen.messages.first().map(|turn| &turn.role);
        let roles: Vec<_> = self.prompt.iter().map(|turn| &turn.role).chain(completion_role).collect();
        let consecutive = roles.windows(2).any(|two| two[0] == two[1]);
        let empty = self.prompt.iter().any(|turn| turn.content.is_empty());
        [
            self.trimmed.then_some(Remark::Repaired("trimmed_white_space")),
            consecutive.then_some(Remark::Noted("consecutive_turns")),
            empty.then_some(Remark::Noted("empty_prompt_turn")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn group(self, split: Option<Split>, source: &Arc<str>, domain: &Arc<str>) -> RawGroup {
        RawGroup {
            split,
            source: source.clone(),
            domain: domain.clone(),
            prompt: self.prompt,
            completions: vec![self.chosen, self.rejected],
            pairs: vec![(0, 1)],
        }
    }
}

/// Reads one line: a pair, or all that is wrong with it.
fn parse(line: &[u8]) -> Result<Parsed, Vec<Flaw>> {
    let line = json(line).map_err(|flaw| vec![flaw])?;
    let (chosen, rejected) = match (side("chosen", &line.chosen), side("rejected", &line.rejected)) {
        (Ok(chosen), Ok(rejected)) => (chosen, rejected),
        (chosen, rejected) => return Err([chosen.err(), rejected.err()].into_iter().flatten().collect()),
    };
    let flaws = compare(&chosen, &rejected);
    if !flaws.is_empty() {
        return Err(flaws);
    }
    let trimmed = chosen.trimmed || rejected.trimmed;
    let completion =
        |text: String, score| RawCompletion { messages: vec![Message::assistant(text)], score, label: None };
    Ok(Parsed {
        prompt: chosen.prompt,
        chosen: completion(chosen.completion, line.score_chosen),
        rejected: completion(rejected.completion, line.score_rejected),
        trimmed,
    })
}

fn json(line: &[u8]) -> Result<Line, Flaw> {
    let text = std::str::from_utf8(line).map_err(|error| Flaw {
        reason: Reason::NotUtf8,
        detail: format!("invalid UTF-8 after {} bytes", error.valid_up_to()),
    })?;
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let reason = match error.classify() {
            serde_json::error::Category::Data if message.starts_with("missing field") => Reason::MissingField,
            serde_json::error::Category::Data => Reason::WrongType,
            _ => Reason::NotJson,
        };
        // serde counts lines within this one line.
        Flaw { reason, detail: head(&message.replace(" at line 1 column", " at column")).to_owned() }
    })
}

fn side(name: &str, text: &str) -> Result<Transcript, Flaw> {
    transcript::parse(text).map_err(|flaw| {
        let (reason, what) = match flaw {
            transcript::Flaw::NoAssistantTurn => (Reason::NoAssistantTurn, "has no assistant turn"),
            transcript::Flaw::TextBeforeFirstTurn => {
                (Reason::TextBeforeFirstTurn, "has text before its first turn")
            }
            transcript::Flaw::HumanTurnLast => (Reason::HumanTurnLast, "ends with a human turn"),
        };
        Flaw { reason, detail: format!("{name} {what}: {}", excerpt(text.trim())) }
    })
}

/// All that is wrong with two sides that are transcripts each.
fn compare(chosen: &Transcript, rejected: &Transcript) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    for (name, side) in [("chosen", chosen), ("rejected", rejected)] {
        if side.completion.is_empty() {
            flaws.push(Flaw { reason: Reason::EmptyCompletion, detail: format!("{name} is empty") });
        }
        if side.prompt.iter().all(|turn| turn.content.is_empty()) {
            flaws
                .push(Flaw { reason: Reason::EmptyPrompt, detail: format!("the prompt of {name} is empty") });
        }
    }
    if chosen.prompt != rejected.prompt {
        let same = chosen.prompt.iter().zip(&rejected.prompt).take_while(|(one, other)| one == other).count();
        let (one, other) = (chosen.prompt.len(), rejected.prompt.len());
        let detail = format!("prompts of {one} and {other} turns differ from turn {}", same + 1);
        flaws.push(Flaw { reason: Reason::UnequalPrompts, detail });
    } else if chosen.completion == rejected.completion {
        let detail = format!("both sides are {}", excerpt(&chosen.completion));
        flaws.push(Flaw { reason: Reason::IdenticalCompletions, detail });
    }
    flaws
}

/// The beginning of a text.
fn head(text: &str) -> &str {
    const LONGEST: usize = 80;
    text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end])
}

/// Quotes the beginning of a text, on one line.
fn excerpt(text: &str) -> String {
    let head = head(text);
    let dots = if head.len() < text.len() { "…" } else { "" };
    format!("{head:?}{dots}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::tests::Collected;
    use proptest::prelude::*;

    fn read(lines: &[&[u8]]) -> Collected {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), lines.join(&b'\n')).unwrap();
        let mut reading = Collected::default();
        let hh = Hh::resolve(file.path(), "s".to_owned(), "d".to_owned()).unwrap();
        hh.read(Path::new("unused"), &mut reading).unwrap();
        let counts = &reading.counts;
        assert_eq!(counts.read, counts.pairs + counts.rejected);
        assert_eq!(
            (reading.groups.len(), reading.rejected.len()),
            (counts.groups as usize, counts.rejected as usize)
        );
        reading
    }

    fn line(chosen: &str, rejected: &str) -> String {
        serde_json::json!({"chosen": chosen, "rejected": rejected}).to_string()
    }

    #[test]
    fn every_flaw_is_named_and_overlaps_are_told() {
        let same = "\n\nHuman: a\n\nAssistant: b";
        let lines = [
            line(same, "\n\nHuman: a\n\nAssistant: c"),
            line(same, same),
            line(same, "\n\nHuman: z\n\nAssistant: "),
            line("\n\nAssistant: b", "\n\nAssistant: c"),
            line("\n\nHuman: a", "x\n\nAssistant: c"),
            r#"{"chosen": "x"}"#.to_owned(),
            r#"{"chosen": "x", "rejected": 3}"#.to_owned(),
            r#"{"chosen": "x", "rejec"#.to_owned(),
            r"[1, 2]".to_owned(),
        ];
        let mut bytes: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
        bytes.push(b"{\"chosen\": \"\xff\"}");
        let reading = read(&bytes);
        let reasons: Vec<_> = reading.rejected.iter().map(|row| (row.line, row.reason.as_str())).collect();
        let expected = [
            (2, "identical_completions"),
            (3, "empty_completion+unequal_prompts"),
            (4, "empty_prompt"),
            (5, "no_assistant_turn+text_before_first_turn"),
            (6, "missing_field"),
            (7, "wrong_type"),
            (8, "not_json"),
            (9, "wrong_type"),
            (10, "not_utf8"),
        ];
        assert_eq!(reasons, expected);
        assert_eq!(reading.counts.rejected_by_reason["empty_completion"], 1);
        assert_eq!(reading.counts.rejected_overlaps["empty_completion+unequal_prompts"], 1);
        assert_eq!(reading.counts.pairs, 1);
    }

    #[test]
    fn scores_are_kept_and_other_keys_ignored() {
        let text = r#"{"chosen":"\n\nHuman: a\n\nAssistant: b","rejected":"\n\nHuman: a\n\nAssistant: c","score_chosen":1,"extra":[{}]}"#;
        let reading = read(&[text.as_bytes()]);
        let scores: Vec<_> = reading.groups[0].completions.iter().map(|side| side.score).collect();
        assert_eq!(scores, [Some(1.0), None]);
    }

    #[test]
    fn odd_pairs_are_kept_and_noted() {
        let text = "\n\nHuman: a\n\nHuman: \n\nAssistant: ";
        let reading = read(&[line(&format!("{text}b"), &format!("{text}c")).as_bytes()]);
        assert_eq!(reading.counts.pairs, 1);
        assert_eq!(
            (reading.counts.noted["consecutive_turns"], reading.counts.noted["empty_prompt_turn"]),
            (1, 1)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn arbitrary_sides_are_pairs_or_rejected(
            parts in proptest::collection::vec("\n|Human:|\n\nHuman: a|\n\nAssistant: |é|\\PC", 0..12),
            cut in 0usize..12,
        ) {
            let (chosen, rejected) = parts.split_at(cut.min(parts.len()));
            let line = line(&chosen.concat(), &rejected.concat());
            if let Ok(parsed) = parse(line.as_bytes()) {
                prop_assert!(parsed.chosen != parsed.rejected && !parsed.prompt.is_empty());
            }
        }
    }
}
