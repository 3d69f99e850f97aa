//! Results of `prospect gpu-check`, as JSON and as tables.

use std::collections::BTreeMap;

use prospect_model::{
    Dtype,
    device::{DeviceInfo, KernelCheck, KernelGroup},
};
use prospect_report::overview::{ContentBlock, DisplayTable, Overview, Section, TableCell};
use prospect_train::{ParityResult, benchmark::BenchmarkResult};
use serde::Serialize;

use crate::plan::{human_bytes, quantization_name};

/// Result of a part, or the reason why it was skipped.
pub(super) type PartResult<T> = anyhow::Result<Result<T, String>>;

/// Outcome of a part.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PartOutcome<T> {
    /// Result.
    Done(T),
    /// Reason why it was skipped.
    LeftOut(String),
    /// Error message.
    Failed(String),
}

impl<T> PartOutcome<T> {
    pub(super) fn from_result(result: PartResult<T>) -> Self {
        match result {
            Ok(Ok(done)) => Self::Done(done),
            Ok(Err(reason)) => Self::LeftOut(reason),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }

    fn done(&self) -> Option<&T> {
        if let Self::Done(done) = self { Some(done) } else { None }
    }

    /// Describes why there is no result.
    fn reason(&self) -> Option<String> {
        match self {
            Self::Done(_) => None,
            Self::LeftOut(reason) => Some(format!("skipped: {reason}")),
            Self::Failed(error) => Some(format!("FAILED: {error}")),
        }
    }
}

/// Results of all parts.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    device: DeviceInfo,
    small: bool,
    /// Kernels enabled for the steps.
    kernels_on: Option<String>,
    pub(super) parity: Vec<Parity>,
    pub(super) kernels: Option<PartOutcome<Kernels>>,
    pub(super) rate: Option<PartOutcome<Rate>>,
    pub(super) steps: Vec<Step>,
}

/// A small model on the device and on the CPU.
#[derive(Debug, Serialize)]
pub(super) struct Parity {
    pub(super) case: &'static str,
    #[serde(flatten)]
    pub(super) outcome: PartOutcome<ParityResult>,
}

impl Parity {
    fn passed(&self) -> bool {
        self.outcome.done().is_some_and(ParityResult::passed)
    }
}

/// Checks of the kernels against their twins.
#[derive(Debug, Serialize)]
pub(super) struct Kernels {
    checks: usize,
    /// Largest error of each kernel, as a fraction of the tolerance.
    largest: BTreeMap<String, f64>,
    /// Kernel, case and error of each failed check.
    failed: Vec<[String; 3]>,
    /// Small models with the kernels that passed.
    parity: Vec<Parity>,
    /// Kernels that are used on this GPU by default.
    pub(super) verified: Vec<KernelGroup>,
}

impl Kernels {
    pub(super) fn new(checks: &[KernelCheck], parity: Vec<Parity>) -> Self {
        let mut largest: BTreeMap<String, f64> = BTreeMap::new();
        for check in checks {
            if let Ok(share) = check.outcome {
                let known = largest.entry(check.entry.clone()).or_default();
                *known = known.max(share);
            }
        }
        let failed = checks.iter().filter(|check| !check.passed()).map(|check| {
            let what = match &check.outcome {
                Ok(share) => format!("error is {share:.2} times the tolerance"),
                Err(error) => error.clone(),
            };
            [check.entry.clone(), check.case.clone(), what]
        });
        Self { checks: checks.len(), largest, failed: failed.collect(), parity, verified: Vec::new() }
    }

    /// Returns whether all models with the kernels agreed with the CPU.
    pub(super) fn parity_passed(&self) -> bool {
        self.parity.iter().all(Parity::passed)
    }

    fn passed(&self) -> bool {
        self.failed.is_empty() && self.parity_passed()
    }
}

/// Rate of matrix products, in operations per second.
#[derive(Debug, Serialize)]
pub(super) struct Rate {
    pub(super) size: usize,
    pub(super) dtype: Dtype,
    pub(super) operations_per_second: f64,
}

/// Steps of one objective on one model.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) model: &'static str,
    pub(super) objective: &'static str,
    /// Own kernels in use.
    pub(super) kernels: Vec<KernelGroup>,
    #[serde(flatten)]
    pub(super) outcome: PartOutcome<BenchmarkResult>,
}

impl Report {
    pub(super) fn new(device: DeviceInfo, small: bool) -> Self {
        let kernels = KernelGroup::in_use();
        let kernels_on = (!kernels.is_empty()).then(|| KernelGroup::names(&kernels));
        let version = env!("CARGO_PKG_VERSION");
        Self {
            version,
            device,
            small,
            kernels_on,
            parity: Vec::new(),
            kernels: None,
            rate: None,
            steps: Vec::new(),
        }
    }

    /// Returns the names of the failed parts.
    pub(super) fn failures(&self) -> Vec<String> {
        let wrong = self.parity.iter().filter(|parity| !parity.passed());
        let mut failures: Vec<String> = wrong.map(|parity| format!("parity of {}", parity.case)).collect();
        if let Some(kernels) = &self.kernels {
            let wrong = kernels.done().is_some_and(|kernels| !kernels.passed());
            if wrong || matches!(kernels, PartOutcome::Failed(_)) {
                failures.push("kernels".to_owned());
            }
        }
        if matches!(self.rate, Some(PartOutcome::Failed(_))) {
            failures.push("rate".to_owned());
        }
        let steps = self.steps.iter().filter(|step| matches!(step.outcome, PartOutcome::Failed(_)));
        failures.extend(steps.map(|step| format!("{} {}", step.model, step.objective)));
        failures
    }

    pub(super) fn overview(&self) -> Overview {
        let DeviceInfo { name, memory, free, driver, compute_capability } = &self.device;
        let mut lead = vec![format!(
            "{name}{}{}",
            compute_capability.as_ref().map_or(String::new(), |of| format!(", compute capability {of}")),
            driver.as_ref().map_or(String::new(), |of| format!(", driver for CUDA {of}")),
        )];
        if let (Some(memory), Some(free)) = (memory, free) {
            lead.push(format!(
                "{} of memory, {} free at the start",
                human_bytes(*memory),
                human_bytes(*free)
            ));
        }
        lead.extend(self.kernels_on.as_ref().map(|on| format!("with Prospect's own kernels for {on}")));
        if self.small {
            lead.push(
                "tiny models instead of the large ones: the numbers are not comparable with theirs"
                    .to_owned(),
            );
        }
        let sections =
            [self.parity_section(), self.kernels_section(), self.rate_section(), self.steps_section()];
        Overview {
            title: "Device check".to_owned(),
            lead,
            warnings: Vec::new(),
            sections: sections.into_iter().flatten().collect(),
        }
    }

    fn parity_section(&self) -> Option<Section> {
        let blocks = parity_blocks(&self.parity);
        (!blocks.is_empty()).then(|| Section { title: "Parity".to_owned(), blocks })
    }

    fn kernels_section(&self) -> Option<Section> {
        let outcome = self.kernels.as_ref()?;
        let mut blocks = Vec::new();
        if let Some(Kernels { checks, largest, failed, parity, verified }) = outcome.done() {
            blocks.push(ContentBlock::Note(format!(
                "{} of {checks} checks of {} kernels passed; the largest error was {:.2} of the tolerance",
                checks - failed.len(),
                largest.len(),
                largest.values().copied().fold(0.0, f64::max),
            )));
            if !failed.is_empty() {
                let rows = failed.iter().map(|row| row.clone().map(TableCell::Text).to_vec()).collect();
                blocks.push(table(&["kernel", "case", "error"], rows));
            }
            blocks.extend(parity_blocks(parity));
            blocks.push(ContentBlock::Note(format!(
                "own kernels used on this GPU by default from now on: {}",
                KernelGroup::names(verified)
            )));
        }
        blocks.extend(outcome.reason().map(ContentBlock::Note));
        Some(Section { title: "Kernels".to_owned(), blocks })
    }

    fn rate_section(&self) -> Option<Section> {
        let outcome = self.rate.as_ref()?;
        let found = outcome.done().map(|rate| {
            format!(
                "{} TFLOP/s in products of {} × {} matrices in {}",
                digits(rate.operations_per_second / 1e12),
                rate.size,
                rate.size,
                rate.dtype
            )
        });
        let blocks = found.or_else(|| outcome.reason()).map(ContentBlock::Note).into_iter().collect();
        Some(Section { title: "Rate of products".to_owned(), blocks })
    }

    fn steps_section(&self) -> Option<Section> {
        if self.steps.is_empty() {
            return None;
        }
        let rate = self.rate.as_ref().and_then(PartOutcome::done).map(|rate| rate.operations_per_second);
        let rows = self.steps.iter().filter_map(|step| {
            let timed = step.outcome.done()?;
            let kind = timed.plan.quantization.and_then(quantization_name);
            let number = |value: Option<String>| TableCell::Number(value.unwrap_or_else(|| "–".to_owned()));
            Some(vec![
                TableCell::Text(step.model.to_owned()),
                TableCell::Text(step.objective.to_owned()),
                TableCell::Text(KernelGroup::names(&step.kernels)),
                TableCell::Text(kind.unwrap_or_else(|| "dense".to_owned())),
                TableCell::count(timed.plan.micro_batch_size as u64),
                TableCell::count(timed.plan.recomputed),
                TableCell::Number(digits(timed.seconds)),
                TableCell::Number(digits(timed.rows as f64 / timed.seconds)),
                TableCell::Number(digits(timed.examples as f64 / timed.seconds)),
                TableCell::Number(digits(timed.rate() / 1e12)),
                number(rate.map(|rate| format!("{:.1} %", 100.0 * timed.rate() / rate))),
                number(timed.peak.map(human_bytes)),
                TableCell::Number(human_bytes(timed.planned)),
                number(timed.plan_by_peak().map(|ratio| format!("{ratio:.2}"))),
            ])
        });
        let heads = [
            "model",
            "objective",
            "own kernels",
            "matrices",
            "micro-batch",
            "recomputed",
            "s/step",
            "tokens/s",
            "examples/s",
            "TFLOP/s",
            "of products",
            "peak",
            "plan",
            "plan/peak",
        ];
        let mut blocks = vec![table(&heads, rows.collect())];
        blocks.extend(self.steps.iter().filter_map(|step| {
            Some(ContentBlock::Note(format!("{} {}: {}", step.model, step.objective, step.outcome.reason()?)))
        }));
        Some(Section { title: "LoRA steps, including the reference".to_owned(), blocks })
    }
}

/// Errors of models against the CPU; nothing without models.
fn parity_blocks(models: &[Parity]) -> Vec<ContentBlock> {
    if models.is_empty() {
        return Vec::new();
    }
    let rows = models.iter().filter_map(|parity| {
        let result = parity.outcome.done()?;
        let error = |of: f64| TableCell::Number(format!("{of:.3}"));
        let same = result.same_tokens.map_or("–".to_owned(), |share| format!("{:.0} %", 100.0 * share));
        Some(vec![
            TableCell::Text(parity.case.to_owned()),
            TableCell::Text(if result.passed() { "passed" } else { "FAILED" }.to_owned()),
            error(result.log_probs),
            error(result.gradients),
            error(result.steps),
            TableCell::Number(same),
        ])
    });
    let heads = ["model", "result", "log-probs", "gradients", "steps", "same tokens"];
    let mut blocks = vec![
        ContentBlock::Note("largest errors against the CPU, as fractions of the tolerance".to_owned()),
        table(&heads, rows.collect()),
    ];
    blocks.extend(models.iter().filter_map(|parity| {
        Some(ContentBlock::Note(format!("{}: {}", parity.case, parity.outcome.reason()?)))
    }));
    blocks
}

fn table(heads: &[&str], rows: Vec<Vec<TableCell>>) -> ContentBlock {
    let columns = heads.iter().map(|head| (*head).to_owned()).collect();
    ContentBlock::Table(DisplayTable { title: String::new(), columns, rows })
}

/// Formats a positive number with three digits.
fn digits(value: f64) -> String {
    let decimals = (2.0 - value.abs().log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entry: &str, outcome: Result<f64, String>) -> KernelCheck {
        KernelCheck { entry: entry.to_owned(), case: "3 × 4".to_owned(), outcome }
    }

    #[test]
    fn a_kernel_that_is_wrong_fails_and_is_named() {
        let facts = DeviceInfo {
            name: "card".into(),
            memory: None,
            free: None,
            driver: None,
            compute_capability: None,
        };
        let mut report = Report::new(facts, false);
        let right = [check("a", Ok(0.25)), check("a", Ok(0.5)), check("b", Ok(0.0))];
        report.kernels = Some(PartOutcome::Done(Kernels::new(&right, Vec::new())));
        assert!(report.failures().is_empty());
        let text = report.overview().text();
        assert!(text.contains("3 of 3 checks of 2 kernels passed; the largest error was 0.50"), "{text}");

        let wrong =
            [check("a", Ok(2.5)), check("b", Err("illegal address".to_owned())), check("b", Ok(f64::NAN))];
        report.kernels = Some(PartOutcome::Done(Kernels::new(&wrong, Vec::new())));
        report.steps.push(Step {
            model: "7b",
            objective: "kto",
            kernels: Vec::new(),
            outcome: PartOutcome::Failed("out of memory".into()),
        });
        report.steps.push(Step {
            model: "30b",
            objective: "kto",
            kernels: Vec::new(),
            outcome: PartOutcome::LeftOut("too large".into()),
        });
        assert_eq!(report.failures(), ["kernels", "7b kto"]);
        let text = report.overview().text();
        for part in [
            "0 of 3 checks",
            "2.50 times",
            "illegal address",
            "7b kto: FAILED: out of memory",
            "30b kto: skipped: too large",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(
            [0.012_345, 1.5, 12.34, 123.4, 12_345.6].map(digits),
            ["0.0123", "1.50", "12.3", "123", "12346"]
        );
    }
}
