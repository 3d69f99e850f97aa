//! Generated feedback with known true utility, small enough for a byte-level model to learn in
//! seconds.
//!
//! A [`SyntheticWorld`] defines prompts, completions and their utility. 8 ways to ask, 8 tasks per
//! domain and 30 extras give 1920 prompts per domain, drawn without repetition until all are used.
//! The kinds of a completion's parts are drawn uniformly and independently; each kind has a few
//! wordings. All completions of a prompt differ.
//!
//! With a temperature of 0.4, the preferred completion has the higher utility in 90 % of the pairs
//! (ties count half). No judge can agree with the labels more often.

mod words;
mod world;
mod world_file;

use std::{io::Write, path::Path};

use prospect_core::{draw::Draw, files::write_whole};
use serde::{Deserialize, Serialize};

pub use words::Domain;
pub use world::{AnnotatorGroup, CompletionPart, SyntheticWorld, Thumbs};
pub use world_file::{AnnotatorsFile, WorldFile};

use crate::{
    DataError, Message,
    ingest::{
        raw::RawCompletion,
        records::FileFormat,
        sources::{
            files::{self, HashedFile},
            json,
            per_record::{Draft, Parsed, RecordFormat, SourceRecord},
        },
    },
};
use words::{ASKS, CLOSINGS, EXTRAS, OPENINGS, Topic, VAGUE};
use world::Kinds;
use world_file::pairs_of;

/// Settings of generated feedback: its amount and its world.
#[derive(Debug, Clone, Serialize)]
pub struct Synthetic {
    pub(crate) pairs: usize,
    pub(crate) seed: u64,
    pub(crate) world: SyntheticWorld,
}

/// One annotator's judgement of a prompt's completions: a line of `raw.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SyntheticRecord {
    prompt: String,
    domain: String,
    /// Completions, most often preferred first.
    completions: Vec<JudgedCompletion>,
    /// Pairs (chosen, rejected), as indices into `completions`.
    pairs: Vec<(usize, usize)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct JudgedCompletion {
    text: String,
    utility: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thumb: Option<bool>,
}

/// Generator of the judgements of a seed.
struct Generator<'a> {
    world: &'a SyntheticWorld,
    draw: Draw,
    prompts: Vec<usize>,
    topics: Vec<(Domain, &'static Topic)>,
}

impl<'a> Generator<'a> {
    fn new(world: &'a SyntheticWorld, seed: u64) -> Self {
        let topics: Vec<_> = world
            .domains
            .iter()
            .flat_map(|domain| domain.topics().iter().map(|topic| (*domain, topic)))
            .collect();
        let prompts =
            Draw::new(seed, "synthetic prompts").permutation(ASKS.len() * topics.len() * EXTRAS.len());
        Self { world, draw: Draw::new(seed, "synthetic"), prompts, topics }
    }

    /// Returns judgement `number`. Judgements of the same prompt are consecutive.
    fn line(&self, number: usize) -> SyntheticRecord {
        let (group, round) = (number / self.world.judgements, number % self.world.judgements);
        let prompt = self.prompts[group % self.prompts.len()];
        let (topic, rest) = (prompt % self.topics.len(), prompt / self.topics.len());
        let (ask, extra) = (ASKS[rest % ASKS.len()], EXTRAS[rest / ASKS.len()]);
        let (domain, Topic { task, .. }) = self.topics[topic];

        let completions = self.completions(topic, group);
        let annotator = self.annotator(group, round);
        let utility = |index: usize| annotator.utility(completions[index].1);
        let mut pairs = Vec::new();
        let mut wins = vec![0; completions.len()];
        for one in 0..completions.len() {
            for other in one + 1..completions.len() {
                let name = match (one, other, round) {
                    (0, 1, 0) => format!("{group}/label"),
                    _ => format!("{group}/label/{one}/{other}/{round}"),
                };
                let first = self.prefers(&name, f64::from(utility(one) - utility(other)));
                pairs.push(if first { (one, other) } else { (other, one) });
                wins[if first { one } else { other }] += 1;
            }
        }
        let mut order: Vec<usize> = (0..completions.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(wins[*index]));
        let place = |index: usize| order.iter().position(|other| *other == index).unwrap_or_default();
        let thumb = |index: usize| {
            let threshold = 10.0 * self.world.thumbs?.threshold;
            let name = format!("{group}/thumb/{index}/{round}");
            Some(self.prefers(&name, f64::from(utility(index)) - threshold))
        };
        let truth = &self.world.annotators[0];
        let judged = |index: &usize| JudgedCompletion {
            text: completions[*index].0.clone(),
            utility: f64::from(truth.utility(completions[*index].1)) / 10.0,
            thumb: thumb(*index),
        };
        SyntheticRecord {
            prompt: format!("{ask} {task} {extra} ?"),
            domain: <&str>::from(domain).to_owned(),
            completions: order.iter().map(judged).collect(),
            pairs: pairs.iter().map(|(chosen, rejected)| (place(*chosen), place(*rejected))).collect(),
        }
    }

    /// Draws whether a utility advantage (in tenths) wins at the annotators' temperature.
    fn prefers(&self, name: &str, advantage: f64) -> bool {
        let uniform = self.uniform(name);
        if self.world.temperature == 0.0 && advantage != 0.0 {
            return advantage > 0.0;
        }
        let temperature = if advantage == 0.0 { 1.0 } else { 10.0 * self.world.temperature };
        uniform < 1.0 / (1.0 + (-advantage / temperature).exp())
    }

    /// Draws the group of the annotator who judges.
    fn annotator(&self, group: usize, round: usize) -> &AnnotatorGroup {
        let mut left = self.uniform(&format!("{group}/annotator/{round}"));
        let groups = &self.world.annotators;
        let drawn = groups.iter().find(|group| {
            left -= group.share;
            left < 0.0
        });
        drawn.unwrap_or(&groups[0])
    }

    /// Draws distinct completions of a prompt, with the kinds of their parts.
    fn completions(&self, topic: usize, group: usize) -> Vec<(String, Kinds)> {
        let mut completions: Vec<(String, Kinds)> = Vec::with_capacity(self.world.completions);
        for index in 0..self.world.completions {
            let name = match index {
                0 => format!("{group}/one"),
                1 => format!("{group}/other"),
                _ => format!("{group}/other {index}"),
            };
            let mut completion = self.completion(topic, &name);
            for attempt in 0.. {
                if completions.iter().all(|(text, _)| *text != completion.0) {
                    break;
                }
                completion = self.completion(topic, &format!("{name}/{attempt}"));
            }
            completions.push(completion);
        }
        completions
    }

    fn completion(&self, topic: usize, name: &str) -> (String, Kinds) {
        let pick =
            |part: &str, among: usize| (self.draw.bits(&format!("{name}/{part}")) % among as u64) as usize;
        let [opening, content, closing] = ["opening", "content", "closing"].map(|part| pick(part, 3));
        let (domain, topic) = (self.topics[topic].0, self.topics[topic].1);
        let right = |topic: &Topic| topic.right[pick("words", topic.right.len())];
        let text = format!(
            "{} {}.{}",
            OPENINGS[opening][pick("opening words", 3)],
            match content {
                0 => right(topic),
                1 => VAGUE[pick("words", 3)],
                _ => {
                    let topics = domain.topics();
                    let own = topics.iter().position(|other| other.task == topic.task).unwrap_or_default();
                    right(&topics[(own + 1 + pick("topic", topics.len() - 1)) % topics.len()])
                }
            },
            CLOSINGS[closing][pick("closing words", 3)],
        );
        // The word lists are ordered by kind: +1, 0, -1.
        (text, [opening, content, closing].map(|kind| [1, 0, -1][kind]))
    }

    /// Draws a uniform number in [0, 1).
    fn uniform(&self, name: &str) -> f64 {
        self.draw.bits(name) as f64 / 2f64.powi(64)
    }
}

/// File name of the generated feedback in the dataset directory.
const RAW: &str = "raw.jsonl";

impl Synthetic {
    /// Generates the feedback and writes it to the dataset directory.
    pub(crate) fn write(&self, dataset: &Path) -> Result<(), DataError> {
        let generator = Generator::new(&self.world, self.seed);
        write_whole(&dataset.join(RAW), |file| {
            for number in 0..self.pairs / pairs_of(self.world.completions) {
                serde_json::to_writer(&mut *file, &generator.line(number))?;
                file.write_all(b"\n")?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Returns the file written by [`write`](Self::write).
    pub(crate) fn input(dataset: &Path) -> Result<HashedFile, DataError> {
        let path = dataset.join(RAW);
        let found = files::find("", &path, FileFormat::default(), |_, _| true)?.files.into_iter().next();
        found.ok_or_else(|| DataError::Missing { file: path, dataset: dataset.to_owned() })
    }
}

impl RecordFormat for Synthetic {
    fn parse(&self, record: &SourceRecord<'_>) -> Parsed {
        json::parse::<SyntheticRecord>(record.bytes).map(SyntheticRecord::draft).into()
    }
}

impl SyntheticRecord {
    fn draft(self) -> Draft {
        let completion = |judged: JudgedCompletion| RawCompletion {
            messages: vec![Message::assistant(judged.text)],
            score: Some(judged.utility),
            label: judged.thumb,
        };
        Draft {
            domain: Some(self.domain),
            prompt: vec![Message::user(self.prompt)],
            completions: self.completions.into_iter().map(completion).collect(),
            pairs: self.pairs,
        }
    }
}

#[cfg(test)]
mod tests;
