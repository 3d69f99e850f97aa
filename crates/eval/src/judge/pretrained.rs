//! Judge with a reward model of the Hugging Face Hub, which was trained elsewhere.
//!
//! An encoder reads a pair of texts, the prompt and the completion; a decoder the conversation in
//! its chat template. Scores are stored on disk by the hash of the model and the tokens of the
//! text, so that other judgements and sweeps reuse them.

mod source;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use prospect_core::files::fingerprint;
use prospect_data::{Message, Split, read_pairs};
use prospect_model::{ClassifierInput, ClassifierText, SequenceClassifier, device::Device};
use prospect_runs::preference;
use prospect_train::{DropReason, Encoder, Truncation};
use rayon::prelude::*;

pub use source::RewardModelSource;

use super::{
    CompletionPair, Judge, JudgeError, Preference,
    agreement::Agreement,
    answer_cache::{AnswerCache, scores_file},
};
use crate::{
    generations::{read_prompts, turns},
    passes,
};

/// Judge with a pretrained reward model. A completion wins if its score is higher.
pub struct PretrainedRewardModel {
    source: RewardModelSource,
    classifier: SequenceClassifier,
    cache: AnswerCache,
    datasets: HashMap<PathBuf, DatasetTexts>,
    scored: HashMap<TextKey, ScoredText>,
    /// Scores that were computed, not read from the cache.
    computed: usize,
    /// First reason why a text has no score.
    unscored: Option<DropReason>,
    /// Preference for the chosen side of pairs of judged prompts, by pair id.
    agreement: BTreeMap<String, f64>,
}

/// Prompt id and completion.
type TextKey = (String, String);

/// A text and its score.
#[derive(Debug, Clone, Copy)]
struct ScoredText {
    /// None if the chat template refuses the conversation, or the last turn of the prompt is too
    /// long.
    score: Option<f32>,
    truncation: Truncation,
}

/// Test split of a dataset.
struct DatasetTexts {
    /// Conversations by prompt id.
    prompts: BTreeMap<String, Vec<Message>>,
    pairs: Vec<JudgedPair>,
}

/// Pair with its completions as text.
#[derive(Clone)]
struct JudgedPair {
    pair_id: String,
    prompt_id: String,
    chosen: String,
    rejected: String,
}

impl DatasetTexts {
    fn read(dataset: &Path) -> Result<Self, JudgeError> {
        let prompts = read_prompts(dataset)?.into_iter().map(|text| (text.prompt_id, text.prompt));
        let pairs = read_pairs(dataset, Split::Test)?.into_iter().map(|row| JudgedPair {
            pair_id: row.pair_id,
            prompt_id: row.prompt_id,
            chosen: turns(&row.chosen, false),
            rejected: turns(&row.rejected, false),
        });
        Ok(Self { prompts: prompts.collect(), pairs: pairs.collect() })
    }
}

impl PretrainedRewardModel {
    /// Loads the reward model in `folder` onto a device. Scores are stored beside the sweeps in the
    /// folder `sweeps`, which share them.
    pub fn open(
        source: RewardModelSource,
        folder: &Path,
        device: &Device,
        sweeps: &Path,
    ) -> Result<Self, JudgeError> {
        SequenceClassifier::check(folder, source.pretrained())?;
        let classifier = SequenceClassifier::open(folder, device)?;
        let cache = AnswerCache::open(&scores_file(sweeps, classifier.fingerprint()))?;
        Ok(Self {
            source,
            classifier,
            cache,
            datasets: HashMap::new(),
            scored: HashMap::new(),
            computed: 0,
            unscored: None,
            agreement: BTreeMap::new(),
        })
    }

    /// Encodes a completion of a prompt, or returns the reason why it cannot be scored.
    fn encode(
        &self,
        prompt: &[Message],
        completion: &str,
    ) -> Result<Result<(ClassifierInput, Truncation), DropReason>, JudgeError> {
        let limit = self.classifier.max_tokens();
        match self.classifier.text() {
            ClassifierText::Pair(encoder) => {
                let pair = encoder.encode(&pair_prompt(prompt), completion)?;
                let truncation = Truncation { prompt: pair.first_cut, completion: pair.second_cut };
                Ok(Ok((pair.input, truncation)))
            }
            ClassifierText::Chat { tokenizer, template } => {
                let encoder = Encoder::from_text(tokenizer, template, limit, limit / 2);
                let encoded = encoder.encode_conversation(prompt, completion)?;
                Ok(encoded.map(|encoded| {
                    (ClassifierInput { tokens: encoded.tokens, types: Vec::new() }, encoded.truncation)
                }))
            }
        }
    }

    /// Scores the texts that have no score yet.
    fn score(&mut self, dataset: &Path, texts: BTreeSet<TextKey>) -> Result<(), JudgeError> {
        let texts: Vec<TextKey> = texts.into_iter().filter(|text| !self.scored.contains_key(text)).collect();
        let prompts = &self.datasets[dataset].prompts;
        let encode = |(prompt_id, completion): &TextKey| match prompts.get(prompt_id) {
            Some(prompt) => self.encode(prompt, completion),
            None => Err(JudgeError::Unusable(format!(
                "{}: the test split lacks the prompt {prompt_id} of a generation; was the dataset prepared again?",
                dataset.display()
            ))),
        };
        let encoded: Vec<_> = texts.par_iter().map(encode).collect::<Result<_, _>>()?;
        let keys = encoded.iter().map(|encoded| match encoded {
            Ok((input, _)) => Ok(Some(fingerprint(&(&input.tokens, &input.types))?)),
            Err(_) => Ok(None),
        });
        let keys: Vec<Option<String>> = keys.collect::<Result<_, JudgeError>>()?;
        // The inputs without a stored score, once each.
        let mut missing: BTreeMap<&str, &ClassifierInput> = BTreeMap::new();
        for (key, encoded) in keys.iter().zip(&encoded) {
            if let (Some(key), Ok((input, _))) = (key, encoded)
                && self.stored(key).is_none()
            {
                missing.insert(key, input);
            }
        }
        let mut missing: Vec<(&str, &ClassifierInput)> = missing.into_iter().collect();
        missing.sort_by_key(|(key, input)| (input.tokens.len(), *key));
        for pass in passes(missing.iter().map(|(_, input)| input.tokens.len())) {
            let part = &missing[pass];
            let inputs: Vec<&ClassifierInput> = part.iter().map(|(_, input)| *input).collect();
            for ((key, _), score) in part.iter().zip(self.classifier.scores(&inputs)?) {
                self.cache.put((*key).to_owned(), score.to_string())?;
            }
        }
        self.computed += missing.len();
        for ((text, encoded), key) in texts.into_iter().zip(encoded).zip(&keys) {
            let truncation = match encoded {
                Ok((_, truncation)) => truncation,
                Err(reason) => {
                    self.unscored.get_or_insert(reason);
                    Truncation::default()
                }
            };
            let score = key.as_ref().and_then(|key| self.stored(key));
            self.scored.insert(text, ScoredText { score, truncation });
        }
        Ok(())
    }

    /// Returns the stored score of an input.
    fn stored(&self, key: &str) -> Option<f32> {
        self.cache.get(key)?.parse().ok().filter(|score: &f32| score.is_finite())
    }

    /// Returns the preference between two completions of a prompt that were scored.
    fn compare(&self, prompt_id: &str, [ours, theirs]: [&str; 2]) -> Option<Preference> {
        let score = |completion: &str| {
            let scored = self.scored.get(&(prompt_id.to_owned(), completion.to_owned()))?;
            scored.score.map(f64::from)
        };
        let (ours, theirs) = (score(ours)?, score(theirs)?);
        Some(Preference { score: preference(ours, theirs), reward: Some(ours - theirs) })
    }

    /// Returns the agreement with the pairs of judged prompts.
    fn agreement(&self) -> Agreement {
        Agreement::new(self.agreement.values().copied())
    }

    fn describe_agreement(&self) -> String {
        let agreement = self.agreement();
        format!(
            " It ranks {} of {} pairs of the judged prompts as people did{}.{}",
            agreement.correct,
            agreement.ranked,
            agreement.share(),
            agreement.warning()
        )
    }

    /// Describes truncated and unscored texts.
    fn describe_truncation(&self) -> String {
        let count = |is: &dyn Fn(&ScoredText) -> bool| self.scored.values().filter(|text| is(text)).count();
        let reason = match &self.unscored {
            Some(DropReason::PromptTooLong) => "the last turn of the prompt is too long".to_owned(),
            Some(reason) => reason.to_string(),
            None => String::new(),
        };
        let unscored = format!("cannot be scored and are left out (such as: {reason})");
        let parts = [
            (count(&|text| text.truncation.prompt), "lost the start of the prompt"),
            (count(&|text| text.truncation.completion), "lost the end of the completion"),
            (count(&|text| text.score.is_none()), unscored.as_str()),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if parts.is_empty() {
            return format!(" None of {} texts was longer.", self.scored.len());
        }
        format!(" Of {} texts, {}.", self.scored.len(), parts.join(", "))
    }
}

/// Returns the prompt as one text: the text of a single user turn, and otherwise all turns, each
/// after its role.
fn pair_prompt(prompt: &[Message]) -> String {
    let is_single = matches!(prompt, [only] if only.role == "user");
    turns(prompt, !is_single)
}

impl Judge for PretrainedRewardModel {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn at_chance(&self) -> bool {
        self.agreement().is_at_chance()
    }

    fn about(&self) -> String {
        let read = match self.classifier.text() {
            ClassifierText::Pair(_) => "the prompt and the completion as a text pair",
            ClassifierText::Chat { .. } => "the conversation in its chat template",
        };
        format!(
            "The reward model {}: a {} with a head for one score, computed in {}. A completion wins if its score is \
             higher; its reward is the difference of the scores, in the unit of that model. It reads {read}, of at most \
             {} tokens.{}{}",
            self.source.description(),
            self.classifier.family(),
            self.classifier.dtype(),
            self.classifier.max_tokens(),
            self.describe_truncation(),
            self.describe_agreement(),
        )
    }

    fn judge(
        &mut self,
        dataset: &Path,
        comparisons: &[CompletionPair],
    ) -> Result<Vec<Option<Preference>>, JudgeError> {
        if !self.datasets.contains_key(dataset) {
            self.datasets.insert(dataset.to_owned(), DatasetTexts::read(dataset)?);
        }
        let judged: BTreeSet<&str> = comparisons.iter().map(|pair| pair.prompt_id.as_str()).collect();
        let is_new = |pair: &&JudgedPair| {
            judged.contains(pair.prompt_id.as_str()) && !self.agreement.contains_key(&pair.pair_id)
        };
        let pairs: Vec<JudgedPair> = self.datasets[dataset].pairs.iter().filter(is_new).cloned().collect();
        let sides = comparisons
            .iter()
            .map(|pair| (&pair.prompt_id, [&pair.completion, &pair.other]))
            .chain(pairs.iter().map(|pair| (&pair.prompt_id, [&pair.chosen, &pair.rejected])));
        let texts = sides.flat_map(|(prompt_id, sides)| sides.map(|text| (prompt_id.clone(), text.clone())));
        self.score(dataset, texts.collect())?;
        for pair in pairs {
            if let Some(preference) = self.compare(&pair.prompt_id, [&pair.chosen, &pair.rejected]) {
                self.agreement.insert(pair.pair_id, preference.score);
            }
        }
        tracing::debug!("{} scores computed, {} texts in all", self.computed, self.scored.len());
        let compare = |pair: &CompletionPair| self.compare(&pair.prompt_id, [&pair.completion, &pair.other]);
        Ok(comparisons.iter().map(compare).collect())
    }
}
