//! Recommendation of a comparison, in sentences.

use prospect_analysis::sequential::{Decision, MethodResult, decide};
use prospect_core::{sample::mean, shell};
use prospect_runs::{
    Comparison, Experiment, Look, LookResult, RecordKind, SweepDir, Verdict, last, series_name,
};

use super::plan_file::METHOD;
use crate::SweepError;

/// Metrics of a run's divergence from its start, the better one first: the KL divergence of samples
/// at temperature 1, and the mean log-ratio of completions that were decoded in another way.
const KL: [&str; 2] = ["eval_samples/kl", "eval_generations/kl"];

/// Returns the recommendation after the looks so far.
pub(super) fn recommendation(sweep: &SweepDir, comparison: &Comparison) -> Result<String, SweepError> {
    let (Some(look), Some(summary)) = (comparison.looks.last(), sweep.summary()?) else {
        return Ok("Inconclusive: no look is done yet.".to_owned());
    };
    let experiment = sweep.experiment()?;
    let is_auc = summary.points.iter().all(|point| point.accuracy.is_none());
    let words = Words {
        sweep,
        experiment: &experiment,
        comparison,
        baseline: comparison.methods.first().map(|method| method.method.as_str()).unwrap_or_default(),
        measure: if is_auc { "AUC" } else { "accuracy" },
    };
    let result = |result: &LookResult| MethodResult {
        method: result.method.clone(),
        difference: result.difference.value,
        verdict: result.verdict,
    };
    let all: Vec<MethodResult> = look.results.iter().map(result).collect();
    let sentences = match decide(&all) {
        Decision::Better(best) => {
            vec![words.better(look, &best), words.cost_in_kl(&best)?, words.files(&best)]
        }
        Decision::Baseline => {
            let baseline = words.baseline;
            vec![words.baseline_is_best(look), words.cost_in_kl(baseline)?, words.files(baseline)]
        }
        Decision::Open => vec![words.inconclusive(look), words.how_to_continue()],
    };
    let sentences = [sentences, vec![words.others(look, &decide(&all))]].concat();
    Ok(sentences.into_iter().filter(|sentence| !sentence.is_empty()).collect::<Vec<_>>().join(" "))
}

/// Facts that sentences need.
struct Words<'a> {
    sweep: &'a SweepDir,
    experiment: &'a Experiment,
    comparison: &'a Comparison,
    baseline: &'a str,
    measure: &'static str,
}

impl Words<'_> {
    fn better(&self, look: &Look, best: &str) -> String {
        let gain = self.difference(look, best, 1.0);
        format!("Recommendation: {best}. It is better than {} by {gain}.", self.baseline)
    }

    fn baseline_is_best(&self, look: &Look) -> String {
        let nearest = nearest(look);
        let gain = self.difference(look, nearest, -1.0);
        format!("Recommendation: {}. It is better than {nearest} by {gain}.", self.baseline)
    }

    /// Difference of a method from the baseline, times `sign`, with its interval.
    fn difference(&self, look: &Look, method: &str, sign: f64) -> String {
        let Some(result) = look.results.iter().find(|result| result.method == method) else {
            return String::new();
        };
        let points = |value: f64| format!("{:.1}", 100.0 * value).replace('-', "−");
        let estimate = result.difference;
        let (low, high) =
            if sign < 0.0 { (-estimate.high, -estimate.low) } else { (estimate.low, estimate.high) };
        format!(
            "{} points of {} (adjusted interval {} to {}, {} seeds)",
            points(sign * estimate.value),
            self.measure,
            points(low),
            points(high),
            result.seeds
        )
    }

    /// Mean KL of the runs of each method from their start.
    fn cost_in_kl(&self, method: &str) -> Result<String, SweepError> {
        let Some(kl) = self.kl(method)? else { return Ok(String::new()) };
        let others = self.comparison.methods.iter().map(|other| other.method.as_str());
        let mut of_others = Vec::new();
        for other in others.filter(|other| *other != method) {
            of_others.extend(self.kl(other)?.map(|kl| format!("{other} {kl:.2}")));
        }
        let compared =
            if of_others.is_empty() { String::new() } else { format!(" ({})", of_others.join(", ")) };
        Ok(format!("Cost: KL of {kl:.2} nats per completion from the start{compared}."))
    }

    fn kl(&self, method: &str) -> Result<Option<f64>, SweepError> {
        let mut values = Vec::new();
        for id in self.runs(method) {
            let mut metrics = self.sweep.run(id).metrics()?;
            metrics.retain(|record| record.kind == RecordKind::Eval);
            values.extend(KL.iter().find_map(|name| last(&metrics, name)));
        }
        // Rounded here, so that no −0.00 is printed.
        Ok(mean(values).map(|kl| (100.0 * kl).round() / 100.0 + 0.0))
    }

    /// Ids of the finished runs of a method, by seed.
    fn runs(&self, method: &str) -> Vec<&str> {
        let is_its = |name: &serde_json::Value| series_name(name) == method;
        let mut runs: Vec<_> =
            self.experiment.runs.iter().filter(|run| run.settings.get(METHOD).is_some_and(is_its)).collect();
        runs.retain(|run| self.sweep.run(&run.id).is_finished());
        runs.sort_by_key(|run| run.seed);
        runs.into_iter().map(|run| run.id.as_str()).collect()
    }

    /// Path of the weights of the first seed, and how to merge and serve them.
    fn files(&self, method: &str) -> String {
        let Some(id) = self.runs(method).first().copied() else { return String::new() };
        let run = self.sweep.run(id);
        let adapter = run.path().join("adapter");
        if !adapter.exists() {
            let model = shell::word(&run.path().join("model").display().to_string());
            return format!("Model: {model}; serve it with `vllm serve {model}`.");
        }
        let adapter = shell::word(&adapter.display().to_string());
        let recipe = shell::word(&self.comparison.request.model);
        format!(
            "Adapter: {adapter}; merge it with `prospect export {recipe} --set weights={adapter} --out merged`, and \
             serve the result with `vllm serve merged`."
        )
    }

    fn inconclusive(&self, look: &Look) -> String {
        let open: Vec<&LookResult> = look
            .results
            .iter()
            .filter(|result| result.verdict == Verdict::Inconclusive && result.seeds == look.planned.seeds)
            .collect();
        let names: Vec<&str> = open.iter().map(|result| result.method.as_str()).collect();
        let excluded = open
            .iter()
            .map(|result| result.difference.low.abs().max(result.difference.high.abs()))
            .fold(0.0, f64::max);
        if names.is_empty() {
            return "Inconclusive: too many runs failed; see their errors in the report.".to_owned();
        }
        format!(
            "Inconclusive: {} and {} are not distinguished; differences above {:.1} points of {} are excluded ({} seeds).",
            self.baseline,
            names.join(", "),
            100.0 * excluded,
            self.measure,
            look.planned.seeds
        )
    }

    fn how_to_continue(&self) -> String {
        let option = match self.comparison.unit {
            prospect_runs::CostUnit::Steps => "--steps N",
            prospect_runs::CostUnit::Seconds => "--budget TIME",
        };
        format!("The same command continues the comparison with a further {option}.")
    }

    /// Names the methods that the first sentence does not: better, worse, or set aside.
    fn others(&self, look: &Look, decision: &Decision) -> String {
        let named = match decision {
            Decision::Better(best) => best.as_str(),
            Decision::Baseline => nearest(look),
            Decision::Open => "",
        };
        let describe = |result: &LookResult| {
            let LookResult { method, seeds, difference, verdict, .. } = result;
            let points = format!("{:+.1} points", 100.0 * difference.value).replace('-', "−");
            match verdict {
                _ if method == named => None,
                Verdict::Better => Some(format!("{method} is better than {} too ({points})", self.baseline)),
                Verdict::Worse => Some(format!("{method} is worse than {} ({points})", self.baseline)),
                Verdict::Inconclusive if *seeds < look.planned.seeds => {
                    Some(format!("{method} was set aside after {seeds} seeds ({points})"))
                }
                Verdict::Inconclusive if *decision == Decision::Open => None,
                Verdict::Inconclusive => {
                    Some(format!("{method} and {} are not distinguished ({points})", self.baseline))
                }
            }
        };
        let sentences: Vec<String> = look.results.iter().filter_map(describe).collect();
        if sentences.is_empty() { String::new() } else { format!("{}.", sentences.join("; ")) }
    }
}

/// The method that comes nearest to the baseline, or exceeds it most.
fn nearest(look: &Look) -> &str {
    let best = look.results.iter().max_by(|a, b| a.difference.value.total_cmp(&b.difference.value));
    best.map(|result| result.method.as_str()).unwrap_or_default()
}
