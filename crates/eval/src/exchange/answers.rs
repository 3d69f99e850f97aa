//! Answers of another engine as the generations of runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use prospect_core::files::hash_file;
use prospect_data::read_objects;
use prospect_model::{Recipe, Tokenizer};
use prospect_runs::{
    Experiment, Generation, GenerationMode, GenerationSource, Judgement, Opponent, PlannedRun, RunDir,
    SweepDir,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{RequestId, weights_folder, weights_hash};
use crate::{
    generations::{read_prompts, turns},
    judge::{JudgeError, baseline},
};

/// Result of importing a file of answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedGenerations {
    /// Runs that have new generations.
    pub runs: usize,
    /// Answers that count.
    pub used: usize,
    /// Answers that do not count, by reason.
    pub skipped: BTreeMap<String, usize>,
    /// Judgements of replaced generations, which were removed.
    pub judgements_removed: usize,
}

type Skip = &'static str;

const UNREADABLE: Skip = "no readable record";
const NO_REQUEST: Skip = "no custom_id of an export";
const NO_RUN: Skip = "no run of this sweep";
const UNFINISHED: Skip = "the run has not finished";
const OTHER_WEIGHTS: Skip = "the weights of the run have changed since the export";
const NO_PROMPT: Skip = "no held-out prompt of the run's data";
const FAILED: Skip = "the engine failed";
const TWICE: Skip = "a second answer to one request";

/// An answer of the engine.
struct Answer {
    text: String,
    /// Tokens by the engine's count, which may include the end token.
    counted: Option<usize>,
    ended: bool,
    model: String,
}

/// Tokenizers of models by recipe; None if a model is not on this machine.
///
/// Engines differ in whether their counts include the end token, so answers are tokenized again.
#[derive(Default)]
struct Tokenizers(BTreeMap<String, Option<Tokenizer>>);

impl Tokenizers {
    fn of_run(&mut self, run: &RunDir) -> Option<&Tokenizer> {
        let model = run.config().ok()?.model;
        let load = || Some(Recipe::deserialize(&model).ok()?.load_text().ok()?.0);
        self.0.entry(model.to_string()).or_insert_with(load).as_ref()
    }
}

/// Answers of one run by prompt.
#[derive(Default)]
struct RunAnswers {
    mode: Option<GenerationMode>,
    answers: BTreeMap<String, Answer>,
}

/// Reads answers, and makes them the generations of their runs. Those that runs have made themselves
/// are replaced only with `replace`. Judgements of replaced generations are removed.
///
/// # Errors
///
/// Fails if no answer counts, or if a run has generations of its own. Nothing is written then.
pub fn import_generations(
    sweep: &SweepDir,
    file: &Path,
    replace: bool,
) -> Result<ImportedGenerations, JudgeError> {
    let experiment = sweep.experiment()?;
    let records = read_objects(file)?;
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    if records.unreadable > 0 {
        skipped.insert(UNREADABLE.to_owned(), records.unreadable);
    }
    let mut by_run: BTreeMap<String, RunAnswers> = BTreeMap::new();
    let mut checks =
        Checks { sweep, experiment: &experiment, weights: BTreeMap::new(), prompts: BTreeMap::new() };
    for record in &records.objects {
        let result = checks.check(record).and_then(|(id, answer)| {
            let run = by_run.entry(id.run).or_default();
            if run.mode.is_some_and(|mode| mode != id.mode) || run.answers.contains_key(&id.prompt) {
                return Err(TWICE);
            }
            run.mode = Some(id.mode);
            run.answers.insert(id.prompt, answer);
            Ok(())
        });
        if let Err(skip) = result {
            *skipped.entry(skip.to_owned()).or_default() += 1;
        }
    }
    let used = by_run.values().map(|run| run.answers.len()).sum();
    if used == 0 {
        let reasons = crate::import::describe_skipped(&skipped);
        return Err(JudgeError::Unusable(format!(
            "{}: no answer counts: {reasons}; import the answers to requests of `prospect export --format prompts`",
            file.display()
        )));
    }
    for id in by_run.keys() {
        let directory = sweep.run(id);
        let is_own = directory.generation_source()?.is_none() && !directory.generations()?.is_empty();
        if is_own && !replace {
            return Err(JudgeError::Unusable(format!(
                "{}: run {id} has generations of its own; add --replace to replace them, with their judgements",
                file.display()
            )));
        }
    }
    let blake3 = hash_file(file)?;
    let mut tokenizers = Tokenizers::default();
    for (id, run) in &by_run {
        let directory = sweep.run(id);
        let source = GenerationSource {
            file: file.display().to_string(),
            blake3: blake3.clone(),
            model: run.answers.values().next().map(|answer| answer.model.clone()).unwrap_or_default(),
            completions: run.answers.len(),
        };
        let generations = checks.generations(id, run, tokenizers.of_run(&directory))?;
        directory.import_generations(&generations, &source)?;
    }
    let replaced: BTreeSet<&str> = by_run.keys().map(String::as_str).collect();
    let judgements_removed = remove_judgements(sweep, &experiment, &replaced)?;
    Ok(ImportedGenerations { runs: by_run.len(), used, skipped, judgements_removed })
}

/// Removes the judgements of replaced generations, on either side, and returns their number.
fn remove_judgements(
    sweep: &SweepDir,
    experiment: &Experiment,
    replaced: &BTreeSet<&str>,
) -> Result<usize, JudgeError> {
    let mut removed = 0;
    for run in &experiment.runs {
        let directory = sweep.run(&run.id);
        let mut judgements = directory.judgements()?;
        let before = judgements.len();
        let is_other = |id: Option<&str>| id.is_some_and(|id| replaced.contains(id));
        let is_stale = |judgement: &Judgement| match &judgement.opponent {
            _ if judgement.step.is_some() => false,
            _ if replaced.contains(run.id.as_str()) => true,
            Opponent::Run(id) => is_other(Some(id)),
            Opponent::Baseline => is_other(baseline(experiment, run)),
            Opponent::Target | Opponent::Model(_) => false,
        };
        judgements.retain(|judgement| !is_stale(judgement));
        if judgements.len() < before {
            removed += before - judgements.len();
            directory.write_judgements(&judgements)?;
        }
    }
    Ok(removed)
}

/// A held-out prompt with its preferred completion, as text.
struct PromptTexts {
    prompt: String,
    chosen: Option<String>,
}

/// Checks of answers, with what runs share.
struct Checks<'a> {
    sweep: &'a SweepDir,
    experiment: &'a Experiment,
    /// Hashes of weights by run.
    weights: BTreeMap<String, Option<String>>,
    /// Held-out prompts by dataset and id.
    prompts: BTreeMap<usize, BTreeMap<String, PromptTexts>>,
}

impl Checks<'_> {
    fn check(&mut self, record: &Map<String, Value>) -> Result<(RequestId, Answer), Skip> {
        let id = record.get("custom_id").and_then(Value::as_str).and_then(RequestId::parse);
        let id = id.ok_or(NO_REQUEST)?;
        let run = self.experiment.runs.iter().find(|run| run.id == id.run).ok_or(NO_RUN)?;
        let directory = self.sweep.run(&run.id);
        if !directory.is_finished() {
            return Err(UNFINISHED);
        }
        let weights = self.weights.entry(run.id.clone()).or_insert_with(|| {
            let (folder, _) = weights_folder(&directory)?;
            weights_hash(&folder).ok()
        });
        if weights.as_ref() != Some(&id.weights) {
            return Err(OTHER_WEIGHTS);
        }
        let prompts = self.prompts_of(run).ok_or(NO_PROMPT)?;
        if !prompts.contains_key(&id.prompt) {
            return Err(NO_PROMPT);
        }
        let answer = answer(record).ok_or(FAILED)?;
        Ok((id, answer))
    }

    fn prompts_of(&mut self, run: &PlannedRun) -> Option<&BTreeMap<String, PromptTexts>> {
        if !self.prompts.contains_key(&run.data) {
            let dataset = &self.experiment.data.get(run.data)?.path;
            let texts = read_prompts(dataset).ok()?.into_iter().map(|prompt| {
                let chosen = prompt.chosen.as_deref().map(|chosen| turns(chosen, false));
                (prompt.prompt_id, PromptTexts { prompt: turns(&prompt.prompt, true), chosen })
            });
            self.prompts.insert(run.data, texts.collect());
        }
        self.prompts.get(&run.data)
    }

    fn generations(
        &self,
        id: &str,
        run: &RunAnswers,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Vec<Generation>, JudgeError> {
        let planned = self.experiment.runs.iter().find(|planned| planned.id == id);
        let prompts = planned.and_then(|planned| self.prompts.get(&planned.data));
        let prompts = prompts.ok_or_else(|| JudgeError::Unusable(format!("run {id} has no prompts")))?;
        let generation = |(prompt_id, answer): (&String, &Answer)| {
            let completion = answer.text.trim().to_owned();
            let tokens = tokenizer.and_then(|tokenizer| tokenizer.encode(&completion).ok());
            let texts = prompts.get(prompt_id)?;
            Some(Generation {
                prompt_id: prompt_id.clone(),
                prompt: texts.prompt.clone(),
                tokens: tokens.map(|tokens| tokens.len()).or(answer.counted).unwrap_or(0),
                completion,
                ended: answer.ended,
                mode: run.mode.unwrap_or(GenerationMode::Greedy),
                chosen: texts.chosen.clone(),
                utility: None,
                chosen_utility: None,
            })
        };
        Ok(run.answers.iter().filter_map(generation).collect())
    }
}

/// Reads an answer to a chat or to a plain completion; None if the engine failed.
fn answer(record: &Map<String, Value>) -> Option<Answer> {
    let response = record.get("response")?;
    // Some engines leave out the level of the body.
    let body = response.get("body").unwrap_or(response);
    let choice = body.get("choices")?.get(0)?;
    let text = choice.pointer("/message/content").or_else(|| choice.get("text"))?.as_str()?;
    let tokens = body.pointer("/usage/completion_tokens").and_then(Value::as_u64);
    Some(Answer {
        text: text.to_owned(),
        counted: tokens.map(|tokens| tokens as usize),
        ended: choice.get("finish_reason").and_then(Value::as_str) == Some("stop"),
        model: body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_to_chats_and_completions_are_read() {
        let read =
            |record: Value| answer(record.as_object().unwrap()).map(|one| (one.text, one.counted, one.ended));
        let chat = json!({"response": {"status_code": 200, "body": {"model": "m", "usage": {"completion_tokens": 3},
            "choices": [{"message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}]}}, "error": null});
        assert_eq!(read(chat), Some(("Hi.".to_owned(), Some(3), true)));
        let plain = json!({"response": {"body": {"choices": [{"text": "Hi", "finish_reason": "length"}]}}});
        assert_eq!(read(plain), Some(("Hi".to_owned(), None, false)));
        assert_eq!(read(json!({"response": null, "error": {"message": "no"}})), None);
    }
}
