//! A comparison in its directory: the frozen plan, and its looks one after another.

use std::path::{Path, PathBuf};

use prospect_analysis::{
    sequential::{Decision, MethodResult, call_alpha, decide, finalists, look_levels},
    summarise,
};
use prospect_core::{
    config::Document,
    files::{short_hash, write_whole},
};
use prospect_runs::{
    Comparison, Contrast, Estimate, Look, LookResult, MethodCost, PlannedLook, Summary, SweepDir, Verdict,
};
use serde_json::{Value, json};

use super::{Budget, CompareOptions, ComparisonPlan, plan_file::METHOD, recommend};
use crate::{
    SweepError,
    config::{LoadedExperiment, RecipeSources},
    plan::SweepPlan,
};

/// Probability of a wrong recommendation, over all looks of all calls.
const ALPHA: f64 = 0.05;

/// A comparison in its directory.
#[derive(Debug)]
pub struct ComparisonSession {
    sweep: SweepDir,
    /// Contents of `plan.yaml`.
    text: String,
    record: Comparison,
}

impl ComparisonSession {
    /// Freezes a plan: writes `plan.yaml` and `compare.json` in the directory `out`.
    pub fn create(out: &Path, options: &CompareOptions, plan: ComparisonPlan) -> Result<Self, SweepError> {
        let ComparisonPlan { methods, design, unit, run_costs, seed_cost, text, .. } = plan;
        let cost = |(method, run): (_, f64)| MethodCost { method: ToString::to_string(&method), run };
        let record = Comparison {
            request: options.request.clone(),
            plan_hash: hash(&text),
            methods: methods.into_iter().zip(run_costs).map(cost).collect(),
            seed: seed_cost,
            unit,
            finalists: super::FINALISTS,
            calls: vec![planned_looks(0, 0, &design.looks)],
            looks: Vec::new(),
            recommendation: None,
            reported: Some(0),
        };
        fs_err::create_dir_all(out)?;
        write_whole(&out.join(PLAN), |file| std::io::Write::write_all(file, text.as_bytes()))?;
        let sweep = SweepDir::at(out.to_owned());
        sweep.write_comparison(&record)?;
        Ok(Self { sweep, text, record })
    }

    /// Opens the comparison in `out`; None if there is none.
    pub fn open(out: &Path) -> Result<Option<Self>, SweepError> {
        let sweep = SweepDir::at(out.to_owned());
        let Some(record) = sweep.comparison()? else { return Ok(None) };
        let text = fs_err::read_to_string(out.join(PLAN))?;
        if hash(&text) != record.plan_hash {
            return Err(SweepError::Setting(format!(
                "the frozen plan was changed: {}; restore it, or compare in another directory with --out",
                out.join(PLAN).display()
            )));
        }
        Ok(Some(Self { sweep, text, record }))
    }

    /// Record of the comparison.
    pub fn record(&self) -> &Comparison {
        &self.record
    }

    /// Contents of the frozen plan.
    pub fn plan_text(&self) -> &str {
        &self.text
    }

    /// Adds looks for a further budget, after all planned ones.
    pub fn extend(&mut self, budget: Budget) -> Result<(), SweepError> {
        if budget.unit() != self.record.unit {
            let option = if budget.unit() == prospect_runs::CostUnit::Steps { "--budget" } else { "--steps" };
            return Err(SweepError::Setting(format!(
                "the plan of {} counts {}: continue it with {option}",
                self.sweep.path().display(),
                self.record.unit
            )));
        }
        let training = self.record.training();
        let costs = self.record.methods.iter().filter(|cost| training.contains(&cost.method.as_str()));
        let seed = self.record.seed + costs.map(|cost| cost.run).sum::<f64>();
        let more = (budget.amount() / seed) as usize;
        if more == 0 {
            return Err(SweepError::Setting(format!(
                "the budget is too small: one more seed of {} takes about {:.0} {}",
                training.join(" and "),
                seed.ceil(),
                self.record.unit
            )));
        }
        let before = self.record.calls.iter().flatten().last().map_or(0, |look| look.seeds);
        let looks =
            if more < 4 { vec![before + more] } else { vec![before + more.div_ceil(2), before + more] };
        self.record.calls.push(planned_looks(self.record.calls.len(), before, &looks));
        Ok(self.sweep.write_comparison(&self.record)?)
    }

    /// Plans the sweep of the next look; None if there is none.
    pub fn next_plan(&self, sources: &RecipeSources<'_>) -> Result<Option<SweepPlan>, SweepError> {
        let Some(look) = self.record.next_look() else { return Ok(None) };
        let out = self.sweep.path();
        let path = out.join(PLAN).display().to_string();
        let mut document = Document::from_text(&path, &self.text)?;
        let mut set = |key: &str, value: Value| -> Result<(), SweepError> {
            Ok(document.set(key, serde_yaml::to_value(value).map_err(std::io::Error::other)?)?)
        };
        set("seeds", (0..look.seeds).collect::<Vec<_>>().into())?;
        set("report.level", look.level.into())?;
        let seeds = self.record.seeds(look);
        let set_aside = seeds.iter().filter(|(_, seeds)| *seeds < look.seeds);
        let rule = |(method, seeds): &(&str, usize)| json!({ METHOD: method, "seed": (*seeds..look.seeds).collect::<Vec<_>>() });
        set("exclude", set_aside.map(rule).collect::<Vec<_>>().into())?;
        let mut experiment = LoadedExperiment::read(&path, document, &[])?;
        experiment.name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some(SweepPlan::new(&experiment, sources, &out.join("data"))?))
    }

    /// Summarises the finished runs of the next look, and records what they show.
    pub fn record_look(&mut self) -> Result<&Look, SweepError> {
        let planned = self
            .record
            .next_look()
            .ok_or_else(|| SweepError::Setting("every look of the comparison is done already".to_owned()))?;
        let summary = summarise(&self.sweep)?;
        let seeds = self.record.seeds(planned);
        let results: Vec<LookResult> =
            seeds.iter().skip(1).map(|(method, _)| self.result(method, &summary)).collect();
        let training = self.record.training();
        let method_result = |result: &LookResult| MethodResult {
            method: result.method.clone(),
            difference: result.difference.value,
            verdict: result.verdict,
        };
        let all: Vec<MethodResult> = results.iter().map(method_result).collect();
        let active: Vec<MethodResult> =
            all.iter().filter(|result| training.contains(&result.method.as_str())).cloned().collect();
        let look = Look {
            planned,
            continuing: finalists(&active, self.record.finalists),
            is_clear: decide(&all) != Decision::Open,
            results,
        };
        self.record.looks.push(look);
        self.sweep.write_comparison(&self.record)?;
        self.record.looks.last().ok_or_else(|| SweepError::Setting("no look was recorded".to_owned()))
    }

    /// Result of a method: at this look, or the conclusion of an earlier one.
    fn result(&self, method: &str, summary: &Summary) -> LookResult {
        let is_its = |contrast: &&Contrast| contrast.series == method && contrast.measure.is_headline();
        let earlier = self.record.looks.iter().flat_map(|look| &look.results);
        let concluded = earlier
            .filter(|result| result.method == method)
            .map(|result| result.verdict)
            .find(|verdict| *verdict != Verdict::Inconclusive);
        match summary.contrasts.iter().find(is_its) {
            Some(contrast) => LookResult {
                method: method.to_owned(),
                seeds: contrast.seeds,
                difference: contrast.adjusted.unwrap_or(contrast.difference),
                p_holm: contrast.p_holm,
                verdict: concluded.unwrap_or(contrast.verdict),
            },
            // All of its runs have failed.
            None => LookResult {
                method: method.to_owned(),
                seeds: 0,
                difference: Estimate { value: 0.0, low: -1.0, high: 1.0 },
                p_holm: 1.0,
                verdict: Verdict::Inconclusive,
            },
        }
    }

    /// Writes the recommendation after the last look into the record and the summary, and returns
    /// it.
    pub fn conclude(&mut self) -> Result<String, SweepError> {
        let text = recommend::recommendation(&self.sweep, &self.record)?;
        self.record.recommendation = Some(text.clone());
        self.sweep.write_comparison(&self.record)?;
        summarise(&self.sweep)?;
        Ok(text)
    }

    /// Records that the report of all calls so far is written, so that a further budget extends the
    /// comparison.
    pub fn finish(&mut self) -> Result<(), SweepError> {
        self.record.reported = Some(self.record.calls.len());
        Ok(self.sweep.write_comparison(&self.record)?)
    }

    /// Directory of the comparison.
    pub fn sweep(&self) -> &SweepDir {
        &self.sweep
    }

    /// Path of the frozen plan.
    pub fn plan_path(&self) -> PathBuf {
        self.sweep.path().join(PLAN)
    }
}

/// Name of the frozen plan.
const PLAN: &str = "plan.yaml";

fn hash(text: &str) -> String {
    short_hash(text.as_bytes())
}

/// Looks of a call, counted from 0, after `before` seeds of earlier calls.
fn planned_looks(call: usize, before: usize, seeds: &[usize]) -> Vec<PlannedLook> {
    let own: Vec<usize> = seeds.iter().map(|seeds| seeds - before).collect();
    let levels = look_levels(call_alpha(ALPHA, call), &own);
    seeds.iter().zip(levels).map(|(seeds, level)| PlannedLook { seeds: *seeds, level }).collect()
}
