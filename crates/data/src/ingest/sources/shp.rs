//! Stanford Human Preferences: one JSON object per line with a Reddit post and two comments on it.
//! `labels` is 1 if the first comment is preferred. HALOs reads it this way too, and the helpful
//! rows that SHP's author republished agree with HH in 2317 of 2317 cases.
//!
//! Two rules apply to training rows, and to all rows of files without splits:
//!
//! - The ratio of the higher to the lower score is at least `min_score_ratio`. A score of zero or
//!   less has no ratio, so its row is dropped.
//! - Of each post's remaining pairs, at most `max_pairs_per_post` are kept, drawn by a hash of the
//!   row's content.

use std::{collections::HashSet, sync::OnceLock};

use prospect_core::{draw::Draw, files::short_hash};
use serde::{Deserialize, Serialize};

use crate::{
    DataError, Message, Split,
    ingest::{
        raw::{Flaw, RawCompletion, RejectReason, Remark},
        sources::{
            files::HashedFile,
            json, numbers,
            per_record::{Draft, Parsed, RecordFormat, SourceRecord},
        },
    },
};

/// Settings that select training rows.
#[derive(Debug, Clone, Serialize)]
pub struct Shp {
    /// Smallest ratio of the higher to the lower score.
    min_score_ratio: f64,
    /// Most pairs per post.
    max_pairs_per_post: Option<usize>,
    seed: u64,
    /// Indices of the records beyond their post's cap.
    #[serde(skip)]
    surplus: OnceLock<HashSet<u64>>,
}

#[derive(Deserialize)]
#[expect(non_snake_case, reason = "the dataset's own names")]
struct ShpRecord {
    #[serde(default, deserialize_with = "numbers::optional_id")]
    post_id: Option<String>,
    domain: Option<String>,
    history: String,
    human_ref_A: String,
    human_ref_B: String,
    #[serde(deserialize_with = "numbers::required_whole")]
    labels: i64,
    #[serde(default, deserialize_with = "numbers::optional")]
    score_A: Option<f64>,
    #[serde(default, deserialize_with = "numbers::optional")]
    score_B: Option<f64>,
}

/// Columns of an [`ShpRecord`].
const COLUMNS: [&str; 8] =
    ["post_id", "domain", "history", "human_ref_A", "human_ref_B", "labels", "score_A", "score_B"];

/// Decision about a record.
enum ShpVerdict {
    Use(ShpRecord),
    Filtered(&'static str),
    Rejected(Flaw),
}

impl Shp {
    pub(crate) fn new(min_score_ratio: f64, max_pairs_per_post: Option<usize>, seed: u64) -> Self {
        Self { min_score_ratio, max_pairs_per_post, seed, surplus: OnceLock::new() }
    }

    /// Determines, once, the records beyond their post's cap. They are chosen by hash, so file
    /// order does not matter.
    pub(crate) fn settle(&self, files: &[HashedFile]) -> Result<(), DataError> {
        let Some(most) = self.max_pairs_per_post.filter(|_| self.surplus.get().is_none()) else {
            return Ok(());
        };
        let draw = Draw::new(self.seed, "shp pairs of a post");
        let mut candidates: Vec<(u64, u64, u64)> = Vec::new();
        let mut number = 0;
        for file in files {
            file.for_each_record(self.columns().as_deref(), &mut |_, record| {
                let usable = record.ok().filter(|_| rules_apply(file.split)).and_then(|bytes| {
                    let record = SourceRecord { bytes, split: file.split, number };
                    let ShpVerdict::Use(line) = self.judge(&record) else { return None };
                    let post = draw.bits(line.post_id.as_deref()?);
                    draft(line).flaws().is_empty().then(|| (post, draw.bits(&short_hash(bytes)), number))
                });
                candidates.extend(usable);
                number += 1;
                Ok(())
            })?;
        }
        candidates.sort_unstable();
        let posts = candidates.chunk_by(|one, other| one.0 == other.0);
        let surplus = posts.flat_map(|pairs| pairs.iter().skip(most)).map(|(_, _, number)| *number).collect();
        let _ = self.surplus.set(surplus);
        Ok(())
    }

    fn judge(&self, record: &SourceRecord<'_>) -> ShpVerdict {
        let line: ShpRecord = match json::parse(record.bytes) {
            Ok(line) => line,
            Err(flaw) => return ShpVerdict::Rejected(flaw),
        };
        let reject = |reason, detail: String| ShpVerdict::Rejected(Flaw { reason, detail });
        if line.labels != 0 && line.labels != 1 {
            return reject(RejectReason::BadValue, format!("`labels` is {}, expected 0 or 1", line.labels));
        }
        if !rules_apply(record.split) {
            return ShpVerdict::Use(line);
        }
        if self.min_score_ratio > 1.0 {
            let (Some(a), Some(b)) = (line.score_A, line.score_B) else {
                let detail =
                    "no `score_A` and `score_B`, which `min_score_ratio` needs; set it to 1 to do without";
                return reject(RejectReason::MissingField, detail.to_owned());
            };
            if a <= 0.0 || b <= 0.0 {
                return ShpVerdict::Filtered("score_not_positive");
            }
            if f64::max(a / b, b / a) < self.min_score_ratio {
                return ShpVerdict::Filtered("score_ratio");
            }
        }
        if self.max_pairs_per_post.is_some() && line.post_id.is_none() {
            let detail = "no `post_id`, which `max_pairs_per_post` needs; set it to null to do without";
            return reject(RejectReason::MissingField, detail.to_owned());
        }
        ShpVerdict::Use(line)
    }
}

fn rules_apply(split: Option<Split>) -> bool {
    split != Some(Split::Test)
}

impl RecordFormat for Shp {
    fn columns(&self) -> Option<Vec<String>> {
        Some(COLUMNS.map(str::to_owned).into())
    }

    fn parse(&self, record: &SourceRecord<'_>) -> Parsed {
        let line = match self.judge(record) {
            ShpVerdict::Use(line) => line,
            ShpVerdict::Filtered(why) => return Parsed::filtered(why),
            ShpVerdict::Rejected(flaw) => return Parsed::rejected(vec![flaw]),
        };
        if self.surplus.get().is_some_and(|surplus| surplus.contains(&record.number)) {
            return Parsed::filtered("pairs_per_post");
        }
        let draft = draft(line);
        let against =
            matches!(draft.completions.as_slice(), [chosen, rejected] if chosen.score < rejected.score);
        let mut parsed = Parsed::from(Ok(draft));
        if against && parsed.drafts.is_ok() {
            parsed.remarks.push(Remark::Noted("lower_score_preferred"));
        }
        parsed
    }
}

fn draft(line: ShpRecord) -> Draft {
    let completion = |text: &str, score| RawCompletion {
        messages: vec![Message::assistant(text.trim())],
        score,
        label: None,
    };
    let a = completion(&line.human_ref_A, line.score_A);
    let b = completion(&line.human_ref_B, line.score_B);
    let (chosen, rejected) = if line.labels == 1 { (a, b) } else { (b, a) };
    Draft {
        domain: line.domain.map(|domain| domain_of(&domain).to_owned()),
        prompt: vec![Message::user(line.history.trim())],
        completions: vec![chosen, rejected],
        pairs: vec![(0, 1)],
    }
}

/// Returns the subreddit: the column holds values such as `askculinary_train`.
fn domain_of(column: &str) -> &str {
    let suffix = ["_train", "_validation", "_test"].iter().find_map(|suffix| column.strip_suffix(suffix));
    suffix.unwrap_or(column)
}

#[cfg(test)]
mod tests {
    use crate::ingest::sources::tests::{Collected, read, read_folder};

    fn row(post: &str, a: f64, b: f64, label: u8, text: usize) -> String {
        format!(
            r#"{{"post_id":"{post}","domain":"askculinary_train","history":"how?","score_A":{a},"score_B":{b},"human_ref_A":"A{text}","human_ref_B":"B{text}","labels":{label},"score_ratio":1.0}}"#
        )
    }

    fn chosen(reading: &Collected) -> Vec<&str> {
        reading.groups.iter().map(|group| group.completions[0].messages[0].content.as_str()).collect()
    }

    #[test]
    fn label_one_prefers_a_and_the_ratio_is_inclusive() {
        let rows = [
            row("p", 4.0, 2.0, 1, 0),
            row("p", 2.0, 4.0, 0, 1),
            row("p", 3.0, 2.0, 1, 2),
            row("p", 3.0, 0.0, 1, 3),
        ];
        let reading = read("{kind: shp}", "a.jsonl", rows.join("\n").as_bytes());
        assert_eq!(chosen(&reading), ["A0", "B1"]);
        assert_eq!(
            (reading.counts.filtered["score_ratio"], reading.counts.filtered["score_not_positive"]),
            (1, 1)
        );
        assert_eq!(&*reading.groups[0].domain, "askculinary");
        let all = read("{kind: shp, min_score_ratio: 1}", "a.jsonl", rows.join("\n").as_bytes());
        assert_eq!(all.groups.len(), 4);
    }

    #[test]
    fn the_cap_counts_pairs_of_a_post_after_the_filter_in_training_only() {
        let rows: Vec<String> = (0..8).map(|n| row("p", 4.0, if n < 7 { 1.0 } else { 3.0 }, 1, n)).collect();
        let text = rows.join("\n");
        let files = [("askculinary/train.json", text.as_str()), ("askculinary/test.json", &text)];
        let reading = read_folder("{kind: shp}", &files);
        assert_eq!(
            (reading.counts.filtered["pairs_per_post"], reading.counts.filtered["score_ratio"]),
            (2, 1)
        );
        assert_eq!(reading.groups.len(), 5 + 8);
        // The kept pairs do not depend on file order, and a smaller cap keeps a subset.
        let backward: Vec<String> = rows.iter().rev().cloned().collect();
        let kept = |cap: usize, rows: &[String]| {
            let source = format!("{{kind: shp, max_pairs_per_post: {cap}}}");
            let reading = read(&source, "a.jsonl", rows.join("\n").as_bytes());
            chosen(&reading).into_iter().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(kept(5, &rows), kept(5, &backward));
        assert!(kept(3, &rows).len() == 3 && kept(3, &rows).is_subset(&kept(5, &rows)));
    }

    #[test]
    fn columns_are_missed_only_where_they_are_needed() {
        let row = r#"{"history":"h\u00e9","human_ref_A":"a","human_ref_B":"b","labels":0}"#;
        let strict = read("{kind: shp}", "a.json", row.as_bytes());
        assert_eq!(strict.counts.rejected_by_reason["missing_field"], 1);
        let lax = read("{kind: shp, min_score_ratio: 1, max_pairs_per_post: null}", "a.json", row.as_bytes());
        assert_eq!(chosen(&lax), ["b"]);
        assert_eq!(lax.groups[0].prompt[0].content, "hé");
        let odd = row.replace("\"labels\":0", "\"labels\":2");
        let odd = read("{kind: shp}", "a.json", odd.as_bytes());
        assert_eq!(odd.counts.rejected_by_reason["bad_value"], 1);
    }

    #[test]
    fn only_the_domains_asked_for_are_read() {
        let row = row("p", 4.0, 2.0, 1, 0);
        let folders = ["askculinary", "legaladvice"];
        let names: Vec<String> = folders
            .iter()
            .flat_map(|folder| ["train", "test"].map(|split| format!("{folder}/{split}.json")))
            .collect();
        let law = row.replace("askculinary_train", "legaladvice_train");
        let files: Vec<(&str, &str)> = names
            .iter()
            .map(|name| (name.as_str(), if name.starts_with('l') { &law } else { &row }.as_str()))
            .collect();
        let reading = read_folder("{kind: shp, domains: [legaladvice]}", &files);
        assert_eq!(reading.groups.len(), 2);
        assert!(reading.groups.iter().all(|group| &*group.domain == "legaladvice"));
    }
}
