//! `prospect judge`: has a judge compare generations, or imports judgements.

mod import;

mod reward_model;

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use anyhow::{Context, anyhow};
use clap::builder::TypedValueParser;
use prospect_core::secret::Secret;
use prospect_eval::judge::{
    Endpoint, EndpointOptions, Judge, JudgedCounts, Question, answers_file, judge_sweep,
};
use prospect_runs::{Opponent, SweepDir};

use crate::{allocator, output, output::say, report};

/// Arguments of `prospect judge`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("judge").required(true))]
pub(crate) struct Args {
    /// Name (below runs/) or directory of the sweep
    #[arg(required_unless_present_any = ["import", "import_generations"])]
    sweep: Option<PathBuf>,
    /// Opponent of the generations: `target`, `baseline` or the id of a run
    ///
    /// `target` is the preferred completion of the held-out pair, `baseline` the generation of the
    /// baseline series at the same x and seed.
    #[arg(long, value_name = "WHAT", default_value = "target", value_parser = clap::builder::StringValueParser::new().map(opponent))]
    against: Opponent,
    /// Also compare the completions that were sampled during training, for curves over the KL
    /// divergence
    ///
    /// Needs `every` in the experiment's `evaluate.generations`, and the opponent `target`.
    #[arg(long, conflicts_with_all = ["import", "import_generations"])]
    samples: bool,
    /// Judge with a model at this OpenAI-compatible address, such as <https://api.openai.com/v1>
    #[arg(long, value_name = "URL", group = "judge", requires = "model")]
    endpoint: Option<String>,
    /// Name of the model at --endpoint
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    model: Option<String>,
    /// Environment variable with the API key; if it is not set, no key is sent
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    key: String,
    /// File with the question, which has {prompt}, {first} and {second} once each
    ///
    /// Default: the KTO paper's question, which response is more helpful, harmless and concise.
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    question: Option<PathBuf>,
    /// Maximum tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 16)]
    max_tokens: u32,
    /// Maximum requests per minute [default: unlimited]
    #[arg(long, value_name = "N", requires = "endpoint")]
    per_minute: Option<u32>,
    /// Maximum concurrent requests
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(3))]
    at_once: NonZeroUsize,
    /// Timeout of a request, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// Maximum attempts per request
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(5))]
    tries: NonZeroUsize,
    /// Judge with this reward model: hf://ORG/NAME@REVISION or a folder with a sequence classifier of
    /// one label, or a model recipe to train one from
    ///
    /// From a model recipe (.yaml), a Bradley-Terry reward model is trained on the held-out pairs
    /// whose prompts have no generations.
    #[arg(long, value_name = "MODEL", group = "judge")]
    reward_model: Option<PathBuf>,
    /// Training setting of the reward model of a recipe, as in `--set learning_rate=1e-3`
    ///
    /// Defaults: DPO's loss, 3 epochs, batches of 32 completions, learning rate 1e-4.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "reward_model")]
    set: Vec<String>,
    #[command(flatten)]
    import: import::ImportArgs,
    /// Output directory of the report [default: report/ in the sweep, with a link in reports/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Delay before the first retry of a request.
const WAIT: Duration = Duration::from_secs(1);

fn opponent(text: String) -> Opponent {
    match text.as_str() {
        "target" => Opponent::Target,
        "baseline" => Opponent::Baseline,
        _ => Opponent::Run(text),
    }
}

/// Judges the generations of finished runs, updates the report, and prints the path of its page.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.import.is_given() {
        return args.import.run(args.sweep.as_deref(), &args.against, args.out.as_deref());
    }
    if args.samples && args.against != Opponent::Target {
        return Err(anyhow!("--samples compares with the preferred completions: leave out --against"));
    }
    let sweep = args.sweep.as_deref().context("no sweep: give its name")?;
    let sweep = report::open_sweep(sweep)?;
    let claim = sweep.claims().take("judge")?;
    let claim = claim.ok_or_else(|| {
        anyhow!("another process is judging {}; wait for it to end", sweep.path().display())
    })?;
    let JudgedCounts { comparisons, unread } = match (&args.endpoint, &args.model, &args.reward_model) {
        (Some(address), Some(model), _) => {
            let file = answers_file(sweep.path(), model);
            let mut judge = Endpoint::new(args.endpoint(address, model)?, &file)?;
            run_judge(&sweep, &mut judge, args)?
        }
        (_, _, Some(model)) => {
            allocator::retain();
            let mut judge = reward_model::open(&sweep, model, &args.set)?;
            run_judge(&sweep, &mut *judge, args)?
        }
        _ => return Err(anyhow!("no judge: give --endpoint with --model, --reward-model or --import")),
    };
    let left_out = match unread {
        0 => String::new(),
        _ => format!(", {unread} of them excluded: the answer cannot be read, or the text cannot be scored"),
    };
    say(format!("{comparisons} comparisons judged{left_out}"));
    drop(claim);
    let place = report::ReportPlace::new(&sweep, args.out.as_deref())?;
    output::print(report::summarise_and_render(&sweep, &place, None)?.display())?;
    Ok(())
}

fn run_judge(sweep: &SweepDir, judge: &mut dyn Judge, args: &Args) -> anyhow::Result<JudgedCounts> {
    let judged = judge_sweep(sweep, judge, &args.against, args.samples)?;
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
            key: std::env::var(&self.key).ok().and_then(|key| Secret::new(&key)),
            question,
            max_tokens: self.max_tokens,
            per_minute: self.per_minute,
            at_once: self.at_once,
            timeout: Duration::from_secs(self.timeout),
            tries: self.tries,
            wait: WAIT,
        })
    }
}
