//! Tables of a sweep: runs and their metrics, held-out feedback, generations and judgements.

mod held_out;
mod questions;
mod settings;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use prospect_runs::{
    Experiment, Generation, ImportedScore, Judgement, MetricsRecord, Opponent, PlannedRun, PolicySample,
    RecordKind, RunConfig, RunDir, State, Status, SweepDir,
};
use serde_json::Value;

use self::{
    held_out::held_out,
    questions::questions,
    settings::{setting_columns, settings},
};
use crate::{
    QueryError,
    dataset::Datasets,
    table::{RowColumn, Signed, Table},
};

/// Meaning of the column `run`.
const RUN: &str = "Id of the run";

/// Returns the tables of the runs of a sweep, then those of its datasets.
pub(crate) fn tables(sweep: &SweepDir) -> Result<Vec<Table>, QueryError> {
    let experiment = sweep.experiment()?;
    let mut tables = run_tables(sweep, &experiment)?;
    tables.extend(datasets(sweep, &experiment).tables());
    Ok(tables)
}

/// Returns the tables of the runs of a sweep.
pub(crate) fn run_tables(sweep: &SweepDir, experiment: &Experiment) -> Result<Vec<Table>, QueryError> {
    let planned: Vec<PlannedRun> = experiment.all_runs().into_iter().cloned().collect();
    let dirs: Vec<RunDir> = planned.iter().map(|run| sweep.run(&run.id)).collect();
    Ok(vec![
        runs(&dirs, planned, experiment)?,
        metrics(dirs.clone()),
        held_out(dirs.clone()),
        generations(dirs.clone()),
        samples(dirs.clone()),
        questions(dirs.clone()),
        judgements(dirs.clone()),
        scores(dirs),
    ])
}

/// Returns the datasets of a sweep. Those in a sweep that was moved are found below it.
fn datasets(sweep: &SweepDir, experiment: &Experiment) -> Datasets {
    let directory = |path: &PathBuf| {
        let below = path.file_name().map(|name| sweep.path().join("data").join(name));
        if path.exists() {
            path.clone()
        } else {
            below.filter(|below| below.exists()).unwrap_or(path.clone())
        }
    };
    let named = |path: &PathBuf| (path.display().to_string(), directory(path));
    Datasets { datasets: experiment.data.iter().map(|data| named(&data.path)).collect(), are_named: true }
}

/// A run with its settings and state.
struct RunRow {
    planned: PlannedRun,
    /// Directory of its dataset.
    data: String,
    status: Option<Status>,
    /// None before the run has started.
    config: Option<RunConfig>,
    metrics: Vec<MetricsRecord>,
    /// Settings with a value, by name.
    settings: BTreeMap<String, Value>,
}

impl RunRow {
    fn config<T>(&self, value: impl FnOnce(&RunConfig) -> T) -> Option<T> {
        self.config.as_ref().map(value)
    }
}

/// Returns the table of runs, with a column for each setting that has a value.
fn runs(dirs: &[RunDir], planned: Vec<PlannedRun>, experiment: &Experiment) -> Result<Table, QueryError> {
    let mut runs = Vec::new();
    for (dir, planned) in dirs.iter().zip(planned) {
        let status = dir.status()?;
        let config = status.is_some().then(|| dir.config()).transpose()?;
        let data = experiment.data.get(planned.data);
        let data = data.map(|data| data.path.display().to_string()).unwrap_or_default();
        let settings = settings(&planned, config.as_ref());
        runs.push(RunRow { planned, data, status, config, metrics: dir.metrics()?, settings });
    }
    let mut columns = vec![
        RowColumn::text("run", RUN, |run: &RunRow| run.planned.id.clone()),
        RowColumn::integer("seed", "Random seed", |run: &RunRow| run.planned.seed.signed()),
        RowColumn::text("data", "Directory of the dataset", |run: &RunRow| run.data.clone()),
        RowColumn::text(
            "state",
            "`finished`, `running`, `failed`, `stopped` or `not started`",
            |run: &RunRow| {
                run.status
                    .as_ref()
                    .map_or_else(|| State::NOT_STARTED.to_owned(), |status| status.state.to_string())
            },
        ),
        RowColumn::optional_text("reason", "Reason for a failure or an early stop", |run: &RunRow| {
            run.status.as_ref()?.reason.clone()
        }),
        RowColumn::optional_integer("steps", "Optimizer steps done", |run: &RunRow| {
            run.metrics.iter().map(|record| record.step.signed()).max()
        }),
        RowColumn::optional_integer(
            "steps_planned",
            "Optimizer steps of the whole training",
            |run: &RunRow| run.config.as_ref()?.steps.map(Signed::signed),
        ),
        RowColumn::optional_number("seconds", "Wall-clock seconds of work", |run: &RunRow| {
            Some(run.status.as_ref()?.seconds)
        }),
        RowColumn::optional_integer("tokens", "Tokens of training steps", |run: &RunRow| {
            Some(run.status.as_ref()?.tokens.signed())
        }),
        RowColumn::optional_integer("examples", "Training examples", |run: &RunRow| {
            run.config(|config| config.examples.signed())
        }),
        RowColumn::optional_integer("desirable", "Desirable training examples", |run: &RunRow| {
            run.config(|config| config.class_counts.0.signed())
        }),
        RowColumn::optional_integer("undesirable", "Undesirable training examples", |run: &RunRow| {
            run.config(|config| config.class_counts.1.signed())
        }),
        RowColumn::optional_integer("held_out_pairs", "Held-out pairs", |run: &RunRow| {
            run.config.as_ref()?.held_out_pairs.map(Signed::signed)
        }),
        RowColumn::optional_integer(
            "held_out_thumbs",
            "Held-out thumbs, sides of pairs included",
            |run: &RunRow| run.config.as_ref()?.held_out_thumbs.map(Signed::signed),
        ),
        RowColumn::optional_text("family", "Model family, such as `llama`", |run: &RunRow| {
            run.config.as_ref()?.family.clone()
        }),
        RowColumn::optional_integer(
            "parameters",
            "Parameters of the model, without an adapter",
            |run: &RunRow| run.config.as_ref()?.parameters.map(Signed::signed),
        ),
        RowColumn::optional_text(
            "model_fingerprint",
            "Hash of the weights and tokenizer that training starts from",
            |run: &RunRow| run.config(|config| config.model_fingerprint.clone()),
        ),
    ];
    columns.extend(setting_columns(&runs, &columns));
    let runs: Arc<[RunRow]> = runs.into();
    Ok(Table::of_rows("runs", "A run of the sweep with its settings", columns, move || Ok(Arc::clone(&runs))))
}

/// Record `R` of a run.
struct Of<R> {
    run: String,
    record: R,
}

/// Returns the column with the id of the run.
fn run_column<R: 'static>() -> RowColumn<Of<R>> {
    RowColumn::text("run", RUN, |of: &Of<R>| of.run.clone())
}

fn completion<R: 'static>(text: fn(&R) -> &String) -> RowColumn<Of<R>> {
    RowColumn::text("completion", "Text of the policy's completion", move |of: &Of<R>| {
        text(&of.record).clone()
    })
}

fn completion_tokens<R: 'static>(tokens: fn(&R) -> usize) -> RowColumn<Of<R>> {
    let meaning = "Tokens of the completion, without the end token";
    RowColumn::integer("tokens", meaning, move |of: &Of<R>| tokens(&of.record).signed())
}

fn ended<R: 'static>(ended: fn(&R) -> bool) -> RowColumn<Of<R>> {
    RowColumn::boolean("ended", ENDED, move |of: &Of<R>| ended(&of.record))
}

/// Returns the records that `read` finds in each run.
fn of_runs<R, I: IntoIterator<Item = R>>(
    dirs: &[RunDir],
    read: impl Fn(&RunDir) -> Result<I, QueryError>,
) -> Result<Vec<Of<R>>, QueryError> {
    let mut records = Vec::new();
    for dir in dirs {
        records.extend(read(dir)?.into_iter().map(|record| Of { run: dir.id(), record }));
    }
    Ok(records)
}

/// A value of a metric.
struct MetricRow {
    kind: RecordKind,
    step: u64,
    metric: String,
    value: f64,
}

fn metrics(dirs: Vec<RunDir>) -> Table {
    let columns = vec![
        run_column(),
        RowColumn::text(
            "kind",
            "`train` for an optimizer step, `eval` for an evaluation",
            |of: &Of<MetricRow>| of.record.kind.to_string(),
        ),
        RowColumn::integer("step", "Optimizer steps done", |of: &Of<MetricRow>| of.record.step.signed()),
        RowColumn::text("metric", "Name of the metric, as in TRL", |of: &Of<MetricRow>| {
            of.record.metric.clone()
        }),
        RowColumn::number("value", "Value of the metric", |of: &Of<MetricRow>| of.record.value),
    ];
    Table::of_rows("metrics", "A value of a metric of a run", columns, move || {
        of_runs(&dirs, |dir| {
            Ok(dir.metrics()?.into_iter().flat_map(|MetricsRecord { kind, step, values }| {
                values.into_iter().map(move |(metric, value)| MetricRow { kind, step, metric, value })
            }))
        })
    })
}

fn generations(dirs: Vec<RunDir>) -> Table {
    let columns = vec![
        run_column(),
        prompt_id(|generation: &Generation| &generation.prompt_id),
        RowColumn::text("mode", "`greedy` or `nucleus`", |of: &Of<Generation>| of.record.mode.to_string()),
        RowColumn::text("prompt", PROMPT, |of: &Of<Generation>| of.record.prompt.clone()),
        completion(|generation: &Generation| &generation.completion),
        completion_tokens(|generation: &Generation| generation.tokens),
        ended(|generation: &Generation| generation.ended),
        RowColumn::optional_text(
            "chosen",
            "Preferred or desirable held-out completion of the prompt",
            |of: &Of<Generation>| of.record.chosen.clone(),
        ),
        RowColumn::optional_number("utility", UTILITY, |of: &Of<Generation>| of.record.utility),
        RowColumn::optional_number(
            "chosen_utility",
            "True utility of `chosen`, if the data has one",
            |of: &Of<Generation>| of.record.chosen_utility,
        ),
    ];
    let meaning = "A completion of a held-out prompt by a trained policy";
    Table::of_rows("generations", meaning, columns, move || of_runs(&dirs, |dir| Ok(dir.generations()?)))
}

fn samples(dirs: Vec<RunDir>) -> Table {
    let columns = vec![
        run_column(),
        RowColumn::integer("step", "Optimizer steps done", |of: &Of<PolicySample>| of.record.step.signed()),
        prompt_id(|sample: &PolicySample| &sample.prompt_id),
        completion(|sample: &PolicySample| &sample.completion),
        completion_tokens(|sample: &PolicySample| sample.tokens),
        ended(|sample: &PolicySample| sample.ended),
        RowColumn::number(
            "kl",
            "Sum of KL(π ‖ π_ref) over the tokens, in nats",
            |of: &Of<PolicySample>| of.record.kl,
        ),
        RowColumn::number(
            "log_ratio",
            "Log-ratio log π/π_ref of the completion, in nats",
            |of: &Of<PolicySample>| of.record.log_ratio,
        ),
        RowColumn::optional_number("utility", UTILITY, |of: &Of<PolicySample>| of.record.utility),
    ];
    let meaning = "A completion of a held-out prompt, drawn during training";
    Table::of_rows("samples", meaning, columns, move || of_runs(&dirs, |dir| Ok(dir.samples()?)))
}

fn judgements(dirs: Vec<RunDir>) -> Table {
    let characters = |index: usize| {
        move |of: &Of<Judgement>| of.record.characters.map(|characters| characters[index].signed())
    };
    let columns = vec![
        run_column(),
        RowColumn::text("judge", "Name of the judge", |of: &Of<Judgement>| of.record.judge.clone()),
        RowColumn::text(
            "opponent",
            "Other completion: `target` (chosen in the data), `baseline` (run of the baseline), the id of a run or the name of a model",
            |of: &Of<Judgement>| match &of.record.opponent {
                Opponent::Target => "target".to_owned(),
                Opponent::Baseline => "baseline".to_owned(),
                Opponent::Run(name) | Opponent::Model(name) => name.clone(),
            },
        ),
        prompt_id(|judgement: &Judgement| &judgement.prompt_id),
        RowColumn::optional_integer(
            "step",
            "Optimizer steps of a sample; missing for generations",
            |of: &Of<Judgement>| of.record.step.map(Signed::signed),
        ),
        RowColumn::optional_number(
            "score",
            "1 for a win, ½ for a tie, 0 for a loss; missing if unreadable",
            |of: &Of<Judgement>| of.record.score,
        ),
        RowColumn::optional_number(
            "reward",
            "Reward minus that of the other completion, in nats, if the judge has rewards",
            |of: &Of<Judgement>| of.record.reward,
        ),
        RowColumn::optional_integer("characters", "Characters of the completion, as judged", characters(0)),
        RowColumn::optional_integer(
            "opponent_characters",
            "Characters of the other completion, as judged",
            characters(1),
        ),
    ];
    let meaning = "A comparison of a completion with another one by a judge";
    Table::of_rows("judgements", meaning, columns, move || of_runs(&dirs, |dir| Ok(dir.judgements()?)))
}

fn scores(dirs: Vec<RunDir>) -> Table {
    let columns = vec![
        run_column(),
        RowColumn::text("judge", "Name of the tool or of the judge", |of: &Of<ImportedScore>| {
            of.record.judge.clone()
        }),
        RowColumn::text("task", "Task and metric, such as `arc_easy, acc`", |of: &Of<ImportedScore>| {
            of.record.task.clone()
        }),
        RowColumn::text("question", "Id of the question, the same in every run", |of: &Of<ImportedScore>| {
            of.record.question.clone()
        }),
        RowColumn::number("score", "Score, as imported", |of: &Of<ImportedScore>| of.record.score),
        RowColumn::boolean(
            "lower_is_better",
            "True if lower scores are better, as with perplexities",
            |of: &Of<ImportedScore>| of.record.lower_is_better,
        ),
    ];
    let meaning = "A score of a run on a question, imported from another tool";
    Table::of_rows("scores", meaning, columns, move || of_runs(&dirs, |dir| Ok(dir.scores()?)))
}

/// Returns the column with the hash of the prompt.
fn prompt_id<R: 'static>(id: fn(&R) -> &String) -> RowColumn<Of<R>> {
    RowColumn::text("prompt_id", "Hash of the prompt, as in the dataset", move |of: &Of<R>| {
        id(&of.record).clone()
    })
}

const PROMPT: &str = "Turns of the prompt, each after its role and a colon, separated by empty lines";
const ENDED: &str = "True if the policy ended the completion before the token limit";
const UTILITY: &str = "True utility of the completion, if the data has one";
