//! Prompts of finished runs as requests for another engine.

use std::{collections::BTreeMap, io::Write, path::Path};

use prospect_core::files::{WholeDir, write_json, write_whole};
use prospect_data::Message;
use prospect_model::{ChatTemplate, Dtype, Recipe, Tokenizer};
use prospect_runs::{Experiment, GenerationMode, PlannedRun, RunConfig, SweepDir, run_names};
use prospect_train::Encoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{RequestId, weights_folder, weights_hash};
use crate::{
    generations::{draw_prompts, read_prompts},
    judge::JudgeError,
};

/// Prompts and tokens if neither the experiment nor the caller says.
const PROMPTS: usize = 200;
const NEW_TOKENS: usize = 512;

/// Script that generates with vLLM in one process, and notes for its users.
const SCRIPT: &str = include_str!("generate.py");
const NOTES: &str = include_str!("README.txt");

/// Options of an export; None takes the value of the experiment's `evaluate.generations`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PromptOptions {
    /// Number of held-out prompts; 200 if the experiment has no generations.
    pub prompts: Option<usize>,
    /// Token limit of a completion; 512 if the experiment has no generations.
    pub max_new_tokens: Option<usize>,
    /// Decoding strategy; greedy if the experiment has no generations.
    pub mode: Option<GenerationMode>,
}

/// Result of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportedPrompts {
    /// Runs that were written.
    pub runs: usize,
    /// Runs that have not finished, or have no weights of their own.
    pub left_out: usize,
    /// Prompts of each run.
    pub prompts: usize,
}

/// Settings of generation in `experiment.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RecordedGenerations {
    prompts: Option<usize>,
    max_new_tokens: Option<usize>,
    mode: Option<GenerationMode>,
}

/// Resolved settings of generation.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sampling {
    prompts: usize,
    max_tokens: usize,
    temperature: f64,
    top_p: f64,
    mode: GenerationMode,
}

impl Sampling {
    fn new(experiment: &Experiment, options: PromptOptions) -> Self {
        let recorded = experiment.base.pointer("/evaluate/generations").cloned().unwrap_or(Value::Null);
        let recorded = RecordedGenerations::deserialize(recorded).unwrap_or_default();
        let mode = options.mode.or(recorded.mode).unwrap_or(GenerationMode::Greedy);
        let (temperature, top_p) = match mode {
            GenerationMode::Greedy => (0.0, 1.0),
            GenerationMode::Nucleus => (0.7, 0.95),
        };
        Self {
            prompts: options.prompts.or(recorded.prompts).unwrap_or(PROMPTS),
            max_tokens: options.max_new_tokens.or(recorded.max_new_tokens).unwrap_or(NEW_TOKENS),
            temperature,
            top_p,
            mode,
        }
    }
}

/// An entry of `export.json`.
#[derive(Serialize)]
struct ExportedRun {
    run: String,
    name: String,
    /// Base model as its recipe names it; the trained model itself for full training.
    base: String,
    /// Folder of the adapter; None for full training.
    adapter: Option<String>,
    /// Element type of the weights, as torch calls it.
    dtype: &'static str,
    weights: String,
    seed: u64,
    stop_token_ids: Vec<u32>,
}

/// Tokenizers and templates of the runs' models, by recipe.
type Texts = BTreeMap<String, (Tokenizer, ChatTemplate)>;

/// Writes the prompts of all finished runs that have trained weights into the folder `out`.
///
/// # Errors
///
/// Fails if `out` is not empty, or if no run has finished.
pub fn export_prompts(
    sweep: &SweepDir,
    options: PromptOptions,
    out: &Path,
) -> Result<ExportedPrompts, JudgeError> {
    if out.exists() && fs_err::read_dir(out)?.next().is_some() {
        return Err(JudgeError::Unusable(format!(
            "{} is not empty; choose another folder or remove it",
            out.display()
        )));
    }
    let experiment = sweep.experiment()?;
    let sampling = Sampling::new(&experiment, options);
    let names: BTreeMap<&str, String> = run_names(&experiment).into_iter().collect();
    let dir = WholeDir::create(out)?;
    let (mut runs, mut texts) = (Vec::new(), Texts::new());
    let mut exported = ExportedPrompts { left_out: experiment.runs.len(), ..ExportedPrompts::default() };
    for run in &experiment.runs {
        if !sweep.run(&run.id).is_finished() || weights_folder(&sweep.run(&run.id)).is_none() {
            continue;
        }
        let name = names.get(run.id.as_str()).cloned().unwrap_or_else(|| run.id.clone());
        let (entry, prompts) = export_run(sweep, run, &name, sampling, &mut texts, dir.path())?;
        runs.push(entry);
        exported.prompts = exported.prompts.max(prompts);
    }
    if runs.is_empty() {
        return Err(JudgeError::Unusable(format!(
            "{}: no run has finished with trained weights; `prospect sweep status` lists the runs",
            sweep.path().display()
        )));
    }
    exported.runs = runs.len();
    exported.left_out -= runs.len();
    write_json(&dir.path().join("export.json"), &json!({ "sampling": sampling, "runs": runs }))?;
    for (file, text) in [("generate.py", SCRIPT), ("README.txt", NOTES)] {
        write_whole(&dir.path().join(file), |writer| writer.write_all(text.as_bytes()))?;
    }
    dir.commit()?;
    Ok(exported)
}

/// Writes the prompts of one run, and returns its entry with the number of prompts.
fn export_run(
    sweep: &SweepDir,
    run: &PlannedRun,
    name: &str,
    sampling: Sampling,
    texts: &mut Texts,
    out: &Path,
) -> Result<(ExportedRun, usize), JudgeError> {
    let directory = sweep.run(&run.id);
    let config = directory.config()?;
    let fail = |message: String| JudgeError::Unusable(format!("{}: {message}", directory.path().display()));
    let (folder, is_adapter) =
        weights_folder(&directory).ok_or_else(|| fail("it has no trained weights".to_owned()))?;
    let recipe = Recipe::deserialize(&config.model)
        .map_err(|error| fail(format!("config.json: cannot read the model: {error}")))?;
    let key = config.model.to_string();
    if !texts.contains_key(&key) {
        texts.insert(key.clone(), recipe.load_text()?);
    }
    let (tokenizer, template) = texts.get(&key).ok_or_else(|| fail("its tokenizer is missing".to_owned()))?;
    let prompts = encoded_prompts(&config, sampling.prompts, (tokenizer, template), &fail)?;
    let weights = weights_hash(&folder)?;
    let absolute = |path: &Path| std::path::absolute(path).map(|path| path.display().to_string());
    let entry = ExportedRun {
        run: run.id.clone(),
        name: name.to_owned(),
        base: if is_adapter { base_of(sweep, run, &recipe)? } else { absolute(&folder)? },
        adapter: if is_adapter { Some(absolute(&folder)?) } else { None },
        dtype: match recipe.dtype {
            Dtype::F32 => "float32",
            Dtype::Bf16 => "bfloat16",
        },
        weights: weights.clone(),
        seed: run.seed,
        stop_token_ids: template.stop_token_ids().to_vec(),
    };
    let id = |prompt: &str| RequestId {
        run: run.id.clone(),
        prompt: prompt.to_owned(),
        weights: weights.clone(),
        mode: sampling.mode,
    };
    let request = |prompt: &EncodedPrompt| {
        json!({
            "custom_id": id(&prompt.prompt_id).to_string(),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": name, "messages": prompt.messages, "max_tokens": sampling.max_tokens,
                "temperature": sampling.temperature, "top_p": sampling.top_p, "seed": run.seed,
                "stop_token_ids": entry.stop_token_ids,
            },
        })
    };
    let tokens = |prompt: &EncodedPrompt| {
        json!({
            "custom_id": id(&prompt.prompt_id).to_string(), "run": run.id, "prompt_id": prompt.prompt_id,
            "messages": prompt.messages, "text": prompt.text, "prompt_token_ids": prompt.tokens,
        })
    };
    write_lines(&out.join("requests").join(format!("{name}.jsonl")), prompts.iter().map(request))?;
    write_lines(&out.join("prompts").join(format!("{name}.jsonl")), prompts.iter().map(tokens))?;
    Ok((entry, prompts.len()))
}

/// Name of the model that an adapter belongs to, as its `adapter_config.json` has it.
fn base_of(sweep: &SweepDir, run: &PlannedRun, recipe: &Recipe) -> std::io::Result<String> {
    let path = sweep.run(&run.id).path().join("adapter/adapter_config.json");
    let config: Value = serde_json::from_slice(&fs_err::read(path)?).unwrap_or_default();
    let base = config.get("base_model_name_or_path").and_then(Value::as_str);
    Ok(base.map_or_else(|| recipe.name.clone(), str::to_owned))
}

fn write_lines(path: &Path, lines: impl Iterator<Item = Value>) -> std::io::Result<()> {
    write_whole(path, |writer| {
        for line in lines {
            writeln!(writer, "{line}")?;
        }
        Ok(())
    })
}

/// A held-out prompt as a run sees it.
struct EncodedPrompt {
    prompt_id: String,
    messages: Vec<Message>,
    tokens: Vec<u32>,
    text: String,
}

/// Encodes the prompts of a run's dataset, and draws `count` of those that fit.
fn encoded_prompts(
    config: &RunConfig,
    count: usize,
    (tokenizer, template): (&Tokenizer, &ChatTemplate),
    fail: &dyn Fn(String) -> JudgeError,
) -> Result<Vec<EncodedPrompt>, JudgeError> {
    let setting = |key: &str| {
        let value = config.settings.others.get(key).and_then(Value::as_u64);
        value.map(|value| value as usize).ok_or_else(|| fail(format!("config.json has no `settings.{key}`")))
    };
    if let prospect_runs::RecordedObjective::WithOptions(options) = &config.settings.objective
        && options.contains_key("csft")
    {
        return Err(fail(
            "conditional SFT writes a control text after the prompt, which other engines do not; leave this run out"
                .to_owned(),
        ));
    }
    let (max_length, max_prompt_length) = (setting("max_length")?, setting("max_prompt_length")?);
    let encoder = Encoder::from_text(tokenizer, template, max_length, max_prompt_length);
    let mut prompts = Vec::new();
    for prompt in read_prompts(&config.dataset)? {
        let Some(tokens) = encoder.encode_prompt(&prompt.prompt, "")? else { continue };
        let text = tokenizer.decode(&tokens, true)?;
        prompts.push(EncodedPrompt { prompt_id: prompt.prompt_id, messages: prompt.prompt, tokens, text });
    }
    draw_prompts(&mut prompts, count, |prompt| &prompt.prompt_id);
    Ok(prompts)
}
