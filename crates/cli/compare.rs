//! `prospect compare`: recommends a method for data of one's own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use prospect_core::shell;
use prospect_runs::{ComparisonRequest, Look, LookResult};
use prospect_sweep::{
    Budget, CompareOptions, ComparisonPlan, ComparisonSession, Execution, Jobs, Parallelism, execute,
};

use crate::{allocator, locate::SOURCES, output, output::say, overrides::MemoryArgs, report, sweep::memory};

/// Arguments of `prospect compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File or folder of feedback, data recipe, or prepared dataset
    #[arg(value_name = "FEEDBACK|RECIPE|DATASET")]
    data: PathBuf,
    /// Model recipe, for example models/smollm2-135m.yaml
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Methods, the baseline first [default on pairs: dpo, kto, apo_zero_unpaired, ipo; on thumbs:
    /// kto, bco, csft, sft]
    ///
    /// Default methods after the second are left out if the budget is small.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    methods: Vec<String>,
    /// Time of all runs together, such as 90s, 25m or 2h30m
    ///
    /// A few steps are measured first; afterwards, time decides nothing. [default: 30m]
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "steps")]
    budget: Option<Duration>,
    /// Optimizer steps of all runs together, instead of a time: gives the same plan on every
    /// machine
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Train an SFT stage first, from which all runs start; random weights always have one
    #[arg(long)]
    sft: bool,
    /// Peak learning rate of all methods [default: 1e-4 for adapters, 5e-6 for full fine-tuning]
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Completions per optimizer step [default: 32, or 16 or 8 if the budget is small]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Maximum tokens of prompt and completion together [default: 512, or the limit of the model]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Set any other key of the plan, or below `data.` or `model.`, as in `--set train.beta=0.2`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Number of runs to train in parallel
    #[arg(long, value_name = "N", default_value_t = std::num::NonZeroUsize::MIN)]
    jobs: std::num::NonZeroUsize,
    /// Output directory [default: runs/compare-NAME for the data NAME]
    ///
    /// A call with the directory of an earlier comparison continues it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print what the data is and the plan, and stop
    #[arg(long)]
    dry_run: bool,
}

/// Budget if none is given.
const DEFAULT_BUDGET: Duration = Duration::from_mins(30);

/// Parses a time such as `2h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let explain = || format!("write a time like 90s, 25m or 2h30m, not `{text}`");
    let (mut seconds, mut digits) = (0.0, String::new());
    for letter in text.chars() {
        let unit = match letter {
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            digit => {
                digits.push(digit);
                continue;
            }
        };
        seconds += unit * std::mem::take(&mut digits).parse::<f64>().map_err(|_| explain())?;
    }
    if !digits.is_empty() || seconds <= 0.0 {
        return Err(explain());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| explain())
}

impl Args {
    fn request(&self) -> ComparisonRequest {
        let mut settings = self.set.clone();
        settings.extend(self.memory.setting());
        let options = [
            ("--sft", self.sft.then(String::new)),
            ("--learning-rate", self.learning_rate.map(|rate| rate.to_string())),
            ("--batch-size", self.batch_size.map(|size| size.to_string())),
            ("--max-length", self.max_length.map(|length| length.to_string())),
        ];
        let options = options.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        ComparisonRequest {
            data: self.data.display().to_string(),
            model: self.model.display().to_string(),
            methods: self.methods.clone(),
            settings,
            options: options.map(|option| option.trim_end().to_owned()).collect(),
        }
    }

    /// Budget that the command line names.
    fn budget(&self) -> Option<Budget> {
        self.steps.map(Budget::Steps).or(self.budget.map(Budget::Time))
    }

    fn options(&self) -> CompareOptions {
        CompareOptions {
            request: self.request(),
            budget: self.budget().unwrap_or(Budget::Time(DEFAULT_BUDGET)),
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            max_length: self.max_length,
            sft: self.sft,
        }
    }

    fn out(&self) -> PathBuf {
        let name = self.data.file_stem().unwrap_or_default().to_string_lossy();
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("compare-{name}")))
    }
}

/// Plans the comparison or continues it, trains its runs, and prints the recommendation and the
/// path of the report.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    allocator::retain();
    let out = args.out();
    let session = if let Some(session) = ComparisonSession::open(&out)? {
        resume(session, args)?
    } else {
        let options = args.options();
        let plan = ComparisonPlan::new(&options, &SOURCES, &out)?;
        describe(&plan).into_iter().for_each(say);
        if args.dry_run {
            output::print(plan.text.trim_end())?;
            return Ok(());
        }
        ComparisonSession::create(&out, &options, plan)?
    };
    if args.dry_run {
        output::print(session.plan_text().trim_end())?;
        return Ok(());
    }
    say(format!("plan: {}", session.plan_path().display()));
    finish(session, args)
}

/// Checks that a comparison is the requested one, and extends it if all its looks are done.
fn resume(mut session: ComparisonSession, args: &Args) -> anyhow::Result<ComparisonSession> {
    let (planned, requested) = (&session.record().request, args.request());
    let out = args.out();
    anyhow::ensure!(
        *planned == requested,
        "{} holds a comparison with other arguments ({} on {}): repeat those, or name another directory with --out",
        out.display(),
        planned.data,
        planned.model
    );
    if session.record().is_clear() {
        say("the comparison is clear already; nothing is left to train");
    } else if session.record().next_look().is_none() {
        match args.budget() {
            _ if session.record().is_interrupted() => {}
            Some(budget) if !args.dry_run => session.extend(budget)?,
            _ => say("the budget is spent; --steps or --budget continues the comparison"),
        }
    }
    Ok(session)
}

/// Trains the remaining looks and reports.
fn finish(mut session: ComparisonSession, args: &Args) -> anyhow::Result<()> {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let command = shell::command_line("prospect", arguments);
    let execution = Execution { jobs: Jobs::Fixed(args.jobs), retry_failed: true, ..Execution::default() };
    let mut is_checked = false;
    while let Some(plan) = session.next_plan(&SOURCES)? {
        if !is_checked {
            let parallelism = Parallelism { ranks: 1, zero: None, jobs: args.jobs.get() };
            memory::check(&plan, parallelism, 0)?;
            is_checked = true;
        }
        let executed = execute(&plan, session.sweep(), &execution, std::slice::from_ref(&command))?;
        let directory = shell::word(&session.sweep().path().display().to_string());
        anyhow::ensure!(
            executed.failed < executed.runs,
            "all runs failed; see their errors with `prospect sweep status {directory}`"
        );
        if executed.failed > 0 {
            say(format!(
                "{} of {} runs failed; see their errors with `prospect sweep status {directory}`",
                executed.failed, executed.runs
            ));
        }
        describe_look(session.record_look()?).into_iter().for_each(say);
    }
    let recommendation = session.conclude()?;
    output::print(&recommendation)?;
    let place = report::ReportPlace::new(session.sweep(), None)?;
    let page = report::render(session.sweep(), &place, None)?;
    session.finish()?;
    Ok(output::print(page.display())?)
}

/// Describes the data and the design.
fn describe(plan: &ComparisonPlan) -> Vec<String> {
    let ComparisonPlan { facts, methods, left_out, batch_size, design, unit, .. } = plan;
    let names = |methods: &[_]| methods.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut lines = facts.describe();
    let without = if left_out.is_empty() {
        String::new()
    } else {
        format!(" ({} left out: the budget is too small)", names(left_out))
    };
    lines.push(format!("methods: {}{without}", names(methods)));
    let held_out = if facts.has_pairs() {
        format!("{} held-out pairs", design.pairs)
    } else {
        format!("{} held-out thumbs", 2 * design.pairs)
    };
    let looks = design.looks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    lines.push(format!(
        "design: runs of {} steps of {batch_size} completions, {held_out}, looks after {looks} seeds; at most {:.0} {unit}",
        design.steps, design.cost
    ));
    lines.push(format!(
        "expected to detect differences above about {:.1} points with all seeds",
        100.0 * design.detectable
    ));
    lines
}

/// Describes a look.
fn describe_look(look: &Look) -> Vec<String> {
    let points = |value: f64| format!("{:+.1}", 100.0 * value).replace('-', "−");
    let result = |LookResult { method, difference, verdict, seeds, .. }: &LookResult| {
        format!(
            "  {method}: {} points ({} to {}), {verdict}, {seeds} seeds",
            points(difference.value),
            points(difference.low),
            points(difference.high)
        )
    };
    let head = format!(
        "look after {} seeds at level {:.4}: differences from the baseline, adjusted intervals",
        look.planned.seeds, look.planned.level
    );
    std::iter::once(head).chain(look.results.iter().map(result)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_units() {
        let seconds = |text: &str| duration(text).map(|time| time.as_secs_f64());
        assert_eq!(["90s", "25m", "2h30m", "1.5h"].map(seconds), [90.0, 1500.0, 9000.0, 5400.0].map(Ok));
        for text in ["", "25", "m", "1h5", "-3m", "0s"] {
            assert!(duration(text).unwrap_err().contains("write a time like"), "{text}");
        }
    }
}
