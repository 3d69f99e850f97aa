//! Generated feedback whose true utility is known, small enough for a byte-level model to learn in seconds.
//!
//! A prompt is `ASK TOPIC EXTRA ?`, for example `how do i bake bread at home ?`: 8 ways to ask, 8 topics and 30
//! extras make 1920 prompts, drawn without repetition until all are used.
//!
//! A completion is `OPENING CONTENT CLOSING`, for example `sure, use a hot oven. good luck`. Each part is of one of
//! three kinds, drawn evenly and independently, and worded in one of a few ways:
//!
//! | part | +1 | 0 | −1 | weight |
//! |---|---|---|---|---|
//! | opening | polite (`sure,`) | neutral (`well,`) | rude (`ugh,`) | 1.0 |
//! | content | right for the topic | vague (`it depends`) | right for another topic | 1.5 |
//! | closing | kind (`good luck`) | none | curt (`bye`) | 0.2 |
//!
//! The utility `u` of a completion is the weighted sum. The two completions of a pair are independent but not equal;
//! the first is preferred with probability `sigmoid((u1 - u2) / 0.4)`, so that the preferred one has the higher
//! utility in 90 % of the pairs (ties counting half): no judge can agree with the labels more often.
//!
//! What is generated is written in HH's format, with the utilities as scores, and read by HH's reader.

use std::{io::Write, path::Path};

use prospect_core::{draw::Draw, files::write_whole};
use serde::Serialize;

use crate::{
    DataError,
    sources::files::{self, Input},
};

/// How much feedback to generate.
#[derive(Debug, Clone, Serialize)]
pub struct Synthetic {
    pub(crate) pairs: usize,
    pub(crate) seed: u64,
}

const ASKS: [&str; 8] = [
    "how do i",
    "how can i",
    "how should i",
    "tell me how to",
    "help me to",
    "i want to",
    "is it ok to",
    "best way to",
];

/// What is asked, and what is right to say.
const TOPICS: [(&str, [&str; 2]); 8] = [
    ("bake bread", ["use a hot oven", "knead the dough"]),
    ("grow beans", ["plant the seeds", "water the soil"]),
    ("fix a bike", ["oil the chain", "pump the tires"]),
    ("paint a wall", ["buy a wide brush", "let the paint dry"]),
    ("sleep well", ["go to bed early", "dim the lights"]),
    ("learn chess", ["study openings", "guard the king"]),
    ("swim far", ["kick your legs", "breathe slowly"]),
    ("save money", ["spend less cash", "open an account"]),
];

const EXTRAS: [&str; 30] = [
    "today",
    "now",
    "at home",
    "in may",
    "in june",
    "in july",
    "in winter",
    "in summer",
    "alone",
    "fast",
    "slowly",
    "safely",
    "again",
    "at work",
    "on mondays",
    "at night",
    "with mom",
    "with dad",
    "with a pal",
    "for fun",
    "for free",
    "for ann",
    "for bob",
    "for my son",
    "by noon",
    "by hand",
    "by may",
    "in rome",
    "in oslo",
    "in lima",
];

const OPENINGS: [[&str; 3]; 3] =
    [["sure,", "of course,", "gladly,"], ["well,", "ok,", "so,"], ["ugh,", "you fool,", "go away,"]];

const VAGUE: [&str; 3] = ["it depends", "try things", "just do it"];

const CLOSINGS: [[&str; 3]; 3] =
    [[" good luck", " have fun", " cheers"], ["", "", ""], [" bye", " whatever", " so there"]];

/// Utility differences, in tenths, are divided by this before the sigmoid.
const TEMPERATURE: f64 = 4.0;

/// A completion and its utility in tenths, which are exact.
struct Completion {
    text: String,
    utility: i32,
}

/// One line of HH's format.
#[derive(Serialize)]
struct Line {
    chosen: String,
    rejected: String,
    score_chosen: f64,
    score_rejected: f64,
}

/// Generates the pairs of a seed.
struct Generator {
    draw: Draw,
    prompts: Vec<usize>,
}

impl Generator {
    fn new(seed: u64) -> Self {
        let prompts =
            Draw::new(seed, "synthetic prompts").permutation(ASKS.len() * TOPICS.len() * EXTRAS.len());
        Self { draw: Draw::new(seed, "synthetic"), prompts }
    }

    fn pair(&self, number: usize) -> Line {
        let prompt = self.prompts[number % self.prompts.len()];
        let (topic, rest) = (prompt % TOPICS.len(), prompt / TOPICS.len());
        let (ask, extra) = (ASKS[rest % ASKS.len()], EXTRAS[rest / ASKS.len()]);
        let prompt = format!("{ask} {} {extra} ?", TOPICS[topic].0);

        let mut one = self.completion(topic, &format!("{number}/one"));
        let mut other = self.completion(topic, &format!("{number}/other"));
        for attempt in 0.. {
            if one.text != other.text {
                break;
            }
            other = self.completion(topic, &format!("{number}/other/{attempt}"));
        }
        let advantage = f64::from(one.utility - other.utility) / TEMPERATURE;
        let uniform = self.draw.bits(&format!("{number}/label")) as f64 / 2f64.powi(64);
        if uniform >= 1.0 / (1.0 + (-advantage).exp()) {
            std::mem::swap(&mut one, &mut other);
        }
        let transcript =
            |completion: &Completion| format!("\n\nHuman: {prompt}\n\nAssistant: {}", completion.text);
        Line {
            chosen: transcript(&one),
            rejected: transcript(&other),
            score_chosen: f64::from(one.utility) / 10.0,
            score_rejected: f64::from(other.utility) / 10.0,
        }
    }

    fn completion(&self, topic: usize, name: &str) -> Completion {
        let pick =
            |part: &str, among: usize| (self.draw.bits(&format!("{name}/{part}")) % among as u64) as usize;
        let [opening, content, closing] = ["opening", "content", "closing"].map(|part| pick(part, 3));
        let right = |topic: usize| {
            let said = TOPICS[topic].1;
            said[pick("words", said.len())]
        };
        let text = format!(
            "{} {}.{}",
            OPENINGS[opening][pick("opening words", 3)],
            match content {
                0 => right(topic),
                1 => VAGUE[pick("words", 3)],
                _ => right((topic + 1 + pick("topic", TOPICS.len() - 1)) % TOPICS.len()),
            },
            CLOSINGS[closing][pick("closing words", 3)],
        );
        // Kinds are in the order of the table: +1, 0, -1.
        let sign = |kind: usize| [1, 0, -1][kind];
        Completion { text, utility: 10 * sign(opening) + 15 * sign(content) + 2 * sign(closing) }
    }
}

/// Where what is generated stands in the dataset.
const RAW: &str = "raw.jsonl";

impl Synthetic {
    /// Writes what is generated, in HH's format.
    pub(crate) fn write(&self, dataset: &Path) -> Result<(), DataError> {
        let generator = Generator::new(self.seed);
        write_whole(&dataset.join(RAW), |file| {
            for number in 0..self.pairs {
                serde_json::to_writer(&mut *file, &generator.pair(number))?;
                file.write_all(b"\n")?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// What [`write`](Self::write) wrote.
    pub(crate) fn input(dataset: &Path) -> Result<Input, DataError> {
        let path = dataset.join(RAW);
        let found = files::find("", &path, |_| true)?.files.into_iter().next();
        found.ok_or_else(|| DataError::Missing { file: path, dataset: dataset.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_higher_utility_is_preferred_in_nine_of_ten_pairs() {
        let generator = Generator::new(5);
        let mut points = 0.0;
        for number in 0..20_000 {
            let line = generator.pair(number);
            points += match line.score_chosen.total_cmp(&line.score_rejected) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
        let accuracy = points / 20_000.0;
        assert!((0.89..0.91).contains(&accuracy), "{accuracy}");
    }

    #[test]
    fn texts_are_short_plain_and_mostly_new() {
        let generator = Generator::new(1);
        let mut prompts = HashSet::new();
        for number in 0..2000 {
            let line = generator.pair(number);
            assert_ne!(line.chosen, line.rejected);
            for side in [line.chosen, line.rejected] {
                let (prompt, completion) = side.split_once("\n\nAssistant: ").unwrap();
                let prompt = prompt.strip_prefix("\n\nHuman: ").unwrap();
                for text in [prompt, completion] {
                    assert!(text.len() <= 40, "{text}");
                    assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b" ,.?".contains(&b)), "{text}");
                    assert_eq!(text, text.trim());
                }
                prompts.insert(prompt.to_owned());
            }
        }
        assert_eq!(prompts.len(), 1920);
    }
}
