//! `prospect judge`: what policies say, compared by a judge.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::builder::TypedValueParser;
use prospect_core::{config::Document, progress::say};
use prospect_eval::judge::{
    Endpoint, EndpointOptions, Judge, JudgedCounts, Question, RewardModel, judge_sweep,
};
use prospect_model::ModelFile;
use prospect_runs::{Opponent, SweepDir};
use prospect_train::TrainFile;

use crate::{allocator, locate::SOURCES, output, report};

/// Arguments of `prospect judge`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("judge").required(true))]
pub(crate) struct Args {
    /// The sweep's name (below runs/) or directory
    sweep: PathBuf,
    /// What generations are compared with: `target` (the preferred completion of the held-out pair), `baseline` (what the
    /// baseline series says at the same x and seed), or a run's id
    #[arg(long, value_name = "WHAT", default_value = "target", value_parser = clap::builder::StringValueParser::new().map(opponent))]
    against: Opponent,
    /// Ask a model behind this OpenAI-compatible address, such as <https://api.openai.com/v1>
    #[arg(long, value_name = "URL", group = "judge", requires = "model")]
    endpoint: Option<String>,
    /// The model to ask there
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    model: Option<String>,
    /// The environment variable with its key; where it is not set, none is sent
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    key: String,
    /// A file with the question, which has {prompt}, {first} and {second} once each [default: the question of the KTO
    /// paper: which is more helpful, harmless, and concise]
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    question: Option<PathBuf>,
    /// Tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 16)]
    max_tokens: u32,
    /// Requests a minute [default: any number]
    #[arg(long, value_name = "N", requires = "endpoint")]
    per_minute: Option<u32>,
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(3))]
    at_once: NonZeroUsize,
    /// Seconds that an answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// How often a request is sent that gets no answer
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(5))]
    tries: NonZeroUsize,
    /// Train a Bradley-Terry reward model from this model recipe, on held-out pairs whose prompts no policy has continued
    #[arg(long, value_name = "FILE", group = "judge")]
    reward_model: Option<PathBuf>,
    /// A training setting of the reward model, as in `--set learning_rate=1e-3` [default: DPO's loss, 3 epochs in batches
    /// of 32 completions at 1e-4]
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "reward_model")]
    set: Vec<String>,
    /// Where to put the report [default: reports/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

const REWARD_TRAINING: &str = "\
objective: dpo
learning_rate: 1e-4
num_train_epochs: 3
batch_size: 32
max_length: 512
";

/// The first wait before a request is sent again.
const WAIT: Duration = Duration::from_secs(1);

fn opponent(text: String) -> Opponent {
    match text.as_str() {
        "target" => Opponent::Target,
        "baseline" => Opponent::Baseline,
        _ => Opponent::Run(text),
    }
}

/// Has a judge compare what finished runs say, renders the report anew, and prints where its page is.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sweep = report::found(&args.sweep)?;
    let claim = sweep.claims().take("judge")?;
    let claim =
        claim.ok_or_else(|| anyhow!("another process judges {}; wait for it", sweep.path().display()))?;
    let JudgedCounts { comparisons, unread } = match (&args.endpoint, &args.model, &args.reward_model) {
        (Some(address), Some(model), _) => {
            let file = Endpoint::answers_file(sweep.path(), model);
            let mut judge = Endpoint::new(args.endpoint(address, model)?, &file)?;
            round(&sweep, &mut judge, &args.against)?
        }
        (_, _, Some(recipe)) => {
            allocator::retain();
            let mut judge = args.reward_model(&sweep, recipe)?;
            round(&sweep, &mut judge, &args.against)?
        }
        _ => return Err(anyhow!("name a judge: --endpoint with --model, or --reward-model")),
    };
    let left_out = match unread {
        0 => String::new(),
        _ => format!(", {unread} of them with an answer that names no response or both: they are left out"),
    };
    say(format!("{comparisons} comparisons judged{left_out}"));
    drop(claim);
    let out = report::place(args.out.as_deref(), sweep.path().file_name().unwrap_or_default());
    output::print(report::summarised(&sweep, &out, None)?.display())?;
    Ok(())
}

fn round(sweep: &SweepDir, judge: &mut dyn Judge, against: &Opponent) -> anyhow::Result<JudgedCounts> {
    let judged = judge_sweep(sweep, judge, against)?;
    say(judge.about());
    Ok(judged)
}

impl Args {
    fn endpoint(&self, address: &str, model: &str) -> anyhow::Result<EndpointOptions> {
        let question = match &self.question {
            None => Question::default(),
            Some(path) => Question::new(&fs_err::read_to_string(path)?)
                .map_err(|message| anyhow!("{}: {message}", path.display()))?,
        };
        Ok(EndpointOptions {
            address: address.to_owned(),
            model: model.to_owned(),
            key: std::env::var(&self.key).ok().filter(|key| !key.is_empty()),
            question,
            max_tokens: self.max_tokens,
            per_minute: self.per_minute,
            at_once: self.at_once,
            timeout: Duration::from_secs(self.timeout),
            tries: self.tries,
            wait: WAIT,
        })
    }

    fn reward_model(&self, sweep: &SweepDir, recipe: &Path) -> anyhow::Result<RewardModel> {
        let from = recipe.display().to_string();
        let recipe = (SOURCES.recipe)(&from)?.read::<ModelFile>()?.resolve(SOURCES.locate)?;
        let mut training = Document::from_text("--set", REWARD_TRAINING)?;
        self.set.iter().try_for_each(|given| training.set_text(given))?;
        let settings = training.read::<TrainFile>()?.resolve()?;
        let mut continued = BTreeSet::new();
        for run in sweep.experiment().context("cannot read the sweep")?.runs {
            continued.extend(sweep.run(&run.id).generations()?.into_iter().map(|said| said.prompt_id));
        }
        let references = sweep.path().parent().unwrap_or(Path::new("")).join(".reference");
        Ok(RewardModel::new(from, recipe, settings, continued, &references)?)
    }
}
