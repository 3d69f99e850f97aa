//! A synthetic sweep with runs, metrics, generations and a summary.

use std::{collections::BTreeMap, path::Path};

use prospect_runs::{
    Axis, Calibration, CalibrationBin, Contrast, DataUse, Estimate, Experiment, Finding, FrontierPoint,
    FrontierReward, Generation, GenerationMode, Measure, MetricsRecord, Opponent, PairOutcome, PlannedRun,
    Point, RecordKind, ReliabilityBin, RewardKind, RunConfig, Sign, Stage, State, Status, Summary, SweepDir,
    ThumbEstimates, Verdict, WinRate, WinRateContrast,
};
use serde_json::json;

/// Text that must be escaped.
pub(super) const HOSTILE: &str = "<script>alert(1)</script>\"'&";

/// Description of a synthetic sweep.
pub(crate) struct SyntheticSweep<'a> {
    pub(crate) xs: &'a [f64],
    pub(crate) series: &'a [&'a str],
    /// Writes a summary.
    pub(crate) summary: bool,
    pub(crate) question: &'a str,
}

pub(crate) const DEFAULT: SyntheticSweep<'_> = SyntheticSweep {
    xs: &[0.01, 0.1, 1.0],
    series: &["dpo", "kto", "ipo"],
    summary: true,
    question: "Does KTO keep up with DPO when few completions are desirable?",
};

fn estimate(value: f64, half: f64) -> Estimate {
    Estimate { value, low: value - half, high: value + half }
}

/// Returns deterministic noise from −1 to 1.
fn noise(seed: u64, step: u64) -> f64 {
    ((seed * 37 + step * 101) as f64).sin()
}

impl SyntheticSweep<'_> {
    fn accuracy(&self, series: &str, x: f64) -> f64 {
        let index = self.series.iter().position(|name| *name == series).unwrap() as f64;
        0.62 + 0.035 * x.log10() + 0.02 * index * (1.0 - x)
    }

    /// Writes the sweep into a folder.
    pub(crate) fn write(&self, folder: &Path) -> SweepDir {
        let sweep = SweepDir::at(folder.to_owned());
        let mut runs = Vec::new();
        for (data, x) in self.xs.iter().enumerate() {
            for series in self.series {
                for seed in [1, 2] {
                    runs.push(PlannedRun {
                        id: format!("{:016x}", runs.len() * 0x9e37_79b9_7f4a + 77),
                        settings: BTreeMap::from([
                            ("method".to_owned(), json!(series)),
                            ("data.desirable_fraction".to_owned(), json!(x)),
                        ]),
                        seed,
                        data,
                    });
                }
            }
        }
        for (index, run) in runs.iter().enumerate() {
            self.write_run(&sweep, run, index);
        }
        let data = |x: &f64| DataUse {
            path: format!("data/hh-{x}").into(),
            manifest: json!({
                "config": {"source": "hh", "split": {"test": 0.1, "seed": 7}, "note": self.question},
                "counts": {"rows": 4210, "desirable": 421, "undesirable": 3789,
                           "dropped": {"contradictory labels": 12, "empty completion": 3}},
                "inputs": [{"path": "train.jsonl.gz", "blake3": "b1946ac92492d2347c6235b4d2611184"}],
            }),
        };
        let experiment = Experiment {
            name: "imbalance".to_owned(),
            question: self.question.to_owned(),
            commands: vec![
                "prospect prepare-data pipelines/hh.yaml --out data/hh".to_owned(),
                "prospect sweep experiments/imbalance.yaml --out runs/imbalance".to_owned(),
            ],
            x: Axis { key: "data.desirable_fraction".to_owned(), label: "desirable kept, %".to_owned() },
            series: Axis { key: "method".to_owned(), label: "Method".to_owned() },
            baseline: "dpo".to_owned(),
            primary: None,
            level: None,
            resample: Vec::new(),
            reference: None,
            more_references: Vec::new(),
            trained_starts: Vec::new(),
            capabilities: Vec::new(),
            untrained: Vec::new(),
            stages: vec![Stage { name: "sft".to_owned(), id: "ab54d286474ab9e9".to_owned() }],
            data: self.xs.iter().map(data).collect(),
            runs,
            search: None,
            base: json!({"model": {"weights": "hf://HuggingFaceTB/SmolLM2-135M", "lora": {"r": 16, "alpha": 32}},
                         "train": {"beta": 0.1, "learning_rate": 5e-6, "max_length": 512, "label": self.question}}),
        };
        sweep.write_experiment(&experiment).unwrap();
        if self.summary {
            sweep.write_summary(&self.summarize()).unwrap();
        }
        sweep
    }

    fn write_run(&self, sweep: &SweepDir, planned: &PlannedRun, index: usize) {
        let series = planned.settings["method"].as_str().unwrap();
        let x = planned.settings["data.desirable_fraction"].as_f64().unwrap();
        let run = sweep.run(&planned.id);
        run.begin(&RunConfig { seed: planned.seed, ..RunConfig::default() }).unwrap();
        if index == 3 {
            let reason = Some(format!("loss is NaN at step 12; lower learning_rate ({})", self.question));
            run.set_status(&Status { state: State::Failed, seconds: 31.0, tokens: 900, reason }).unwrap();
            return;
        }
        let mut writer = run.metrics_writer().unwrap();
        let mut append = |kind, step, values: &[(&str, f64)]| {
            let values = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            writer.append(&MetricsRecord { kind, step, values }).unwrap();
        };
        let steps = if x < 0.05 { 60 } else { 240 };
        for step in 1..=steps {
            let done = step as f64 / 240.0;
            let noise = noise(planned.seed, step);
            let mut values = vec![
                ("loss", 0.69 - 0.3 * done + 0.05 * noise),
                ("rewards/margins", 1.2 * done + 0.1 * noise + 0.05 * planned.seed as f64),
            ];
            if series == "kto" {
                values.push(("kl_unclamped", 0.5 * done + 0.05 * noise));
            }
            if x < 1.0 {
                values.extend([
                    ("noise/gradient_weight/clean", 0.95 + 0.02 * noise),
                    ("noise/gradient_weight/corrupted", 1.1 - 0.3 * done + 0.03 * noise),
                    ("noise/rewards/clean", 0.4 * done),
                    ("noise/rewards/corrupted", 0.1 * done - 0.02 * noise),
                ]);
            }
            append(RecordKind::Train, step, &values);
            if step % 20 == 0 {
                let accuracy = self.accuracy(series, x) - 0.1 * (-6.0 * done).exp() + 0.01 * noise;
                let eval = [("eval_rewards/accuracies", accuracy), ("eval_rewards/margins", 0.8 * done)];
                append(RecordKind::Eval, step, &eval);
                let domain = [
                    ("eval_logps/chosen", -48.0 - 6.0 * done + noise),
                    ("eval_logps/rejected", -50.0 - 16.0 * done + noise),
                    ("eval_logps/chosen_fallen", 0.5 + 0.2 * done),
                    ("eval_kl_unclamped", 0.6 * done - 0.1),
                    ("eval_rewards/accuracies/domain/askdocs", accuracy + 0.02),
                    ("eval_rewards/accuracies/domain/legaladvice", accuracy - 0.03),
                    ("eval_generations/length", 40.0 + 12.0 * done),
                    ("eval_generations/chosen_length", 44.0),
                    ("eval_generations/ended", 0.8),
                    ("eval_generations/distinct_2", 0.7 - 0.1 * done),
                ];
                append(RecordKind::Eval, step, &domain);
                if x < 1.0 {
                    let agreement = [
                        ("eval_noise/agreement/clean", 0.7),
                        ("eval_noise/agreement/corrupted", 0.4 - 0.1 * done),
                    ];
                    append(RecordKind::Eval, step, &agreement);
                }
            }
        }
        let pair = |index: u64| PairOutcome {
            pair_id: format!("pair {index}"),
            prompt_id: format!("prompt {}", index / 2),
            source: "shp".to_owned(),
            domain: self.question.to_owned(),
            group: None,
            chosen: 6.0 * noise(planned.seed, index) + 8.0 * x,
            rejected: 6.0 * noise(planned.seed + 5, index) - 4.0,
            own_scores: None,
        };
        run.write_pairs(&(0..200).map(pair).collect::<Vec<_>>()).unwrap();
        let generation = |index: u64| Generation {
            prompt_id: format!("{:016x}", index * 7919),
            prompt: format!("user: How do I bake bread, number {index}? {}", self.question),
            completion: format!("sure, use a hot oven. good luck {index} {}", self.question),
            tokens: 12 + index as usize,
            ended: !index.is_multiple_of(3),
            mode: GenerationMode::Nucleus,
            chosen: Some(format!("of course, knead the dough. {}", self.question)),
            utility: Some(0.2 * noise(planned.seed, index)),
            chosen_utility: None,
        };
        run.write_generations(&(0..6).map(generation).collect::<Vec<_>>()).unwrap();
        run.set_status(&Status { state: State::Finished, seconds: 754.0, tokens: 123_456, reason: None })
            .unwrap();
    }

    fn findings(&self) -> Vec<Finding> {
        let finding = |run: usize, sign, steps| Finding {
            run: format!("{:016x}", run * 0x9e37_79b9_7f4a + 77),
            sign,
            evidence: format!("The loss jumps in 3 of 240 steps: {}", self.question),
            steps,
            advice: "Lower learning_rate.".to_owned(),
        };
        vec![
            finding(0, Sign::Unstable, [12, 40]),
            finding(1, Sign::Unstable, [9, 9]),
            finding(2, Sign::RanAway, [0, 240]),
        ]
    }

    fn win_rates(&self) -> Vec<WinRate> {
        let opponents = [("reward model", Opponent::Baseline), ("true utility", Opponent::Target)];
        let rate = |((judge, opponent), series, x): ((&str, Opponent), &str, f64)| WinRate {
            judge: judge.to_owned(),
            opponent,
            series: series.to_owned(),
            x,
            rate: estimate(self.accuracy(series, x), 0.1),
            decided: Some(estimate(self.accuracy(series, x) + 0.02, 0.12)),
            wins_of_all: Some(estimate(31.0 / 64.0, 0.1)),
            length_controlled: Some(estimate(self.accuracy(series, x) - 0.03, 0.11)),
            characters: Some([120.0, 90.0]),
            wins: 31,
            ties: 5,
            losses: 22,
            unread: 6,
            p: 0.03,
            p_holm: 0.06,
            verdict: Verdict::Inconclusive,
        };
        let mut rates = Vec::new();
        for opponent in opponents {
            for series in self.series {
                rates.extend(self.xs.iter().map(|x| rate((opponent.clone(), series, *x))));
            }
        }
        rates
    }

    fn thumbs(&self, series: &str, x: f64) -> ThumbEstimates {
        let bin = |bin: usize| ReliabilityBin {
            low: 0.1 * bin as f64,
            high: 0.1 * (bin + 1) as f64,
            thumbs: 40 + bin,
            probability: 0.05 + 0.1 * bin as f64,
            desirable: 0.1 + 0.08 * bin as f64,
        };
        ThumbEstimates {
            desirable: 210,
            undesirable: 190,
            prompts: 180,
            groups: Some(33),
            auc: estimate(self.accuracy(series, x), 0.03),
            auc_within_prompt: None,
            balanced_accuracy: estimate(0.55, 0.04),
            log_loss: Some(estimate(0.66, 0.02)),
            brier_skill: Some(estimate(0.08, 0.05)),
            length_auc: Some(0.58),
            prompt_auc: Some(0.51),
            reliability: (0..10).map(bin).collect(),
        }
    }

    fn win_rate_contrasts(&self) -> Vec<WinRateContrast> {
        let contrast = |(series, x): (&str, f64)| WinRateContrast {
            judge: "true utility".to_owned(),
            opponent: Opponent::Target,
            series: series.to_owned(),
            baseline: "dpo".to_owned(),
            x,
            difference: estimate(0.06, 0.05),
            p: 0.02,
            p_holm: 0.04,
            verdict: Verdict::Better,
            seeds: 2,
            prompts: 32,
        };
        let others = self.series.iter().filter(|series| **series != "dpo");
        others.flat_map(|series| self.xs.iter().map(|x| contrast((*series, *x)))).collect()
    }

    fn frontier(&self) -> Vec<FrontierPoint> {
        let point = |series: &str, x: f64, step: u64| {
            let kl = step as f64 / 120.0;
            let reward = |kind, value| FrontierReward { kind, mean: estimate(value, 0.1) };
            let kl_interval = Estimate { value: kl, low: 0.8 * kl, high: 1.2 * kl };
            FrontierPoint {
                series: series.to_owned(),
                x,
                step,
                is_last: step == 240,
                kl: kl_interval,
                rewards: vec![
                    reward(RewardKind::Utility, 0.4 + x + kl - 0.4 * kl * kl),
                    reward(RewardKind::Reward("reward model".to_owned()), kl),
                    reward(RewardKind::WinRate("reward model".to_owned()), 0.5 + 0.1 * kl),
                ],
                seeds: 2,
                prompts: 64,
            }
        };
        let steps = [0, 80, 160, 240];
        let all = self.series.iter().flat_map(|series| self.xs.iter().map(move |x| (*series, *x)));
        all.flat_map(|(series, x)| steps.map(|step| point(series, x, step))).collect()
    }

    fn summarize(&self) -> Summary {
        let each = |x: f64| self.series.iter().map(move |series| ((*series).to_owned(), x));
        let point = |(series, x): (String, f64)| Point {
            accuracy: Some(estimate(self.accuracy(&series, x), 0.018)),
            smoothed_accuracy: Some(estimate(self.accuracy(&series, x) - 0.02, 0.012)),
            own_accuracy: (series == "dpo").then(|| estimate(self.accuracy(&series, x) - 0.04, 0.02)),
            thumbs: Some(self.thumbs(&series, x)),
            seeds: [1, 2]
                .map(|seed| self.accuracy(&series, x) + 0.012 * (seed as f64 - 1.5) + 0.004 * noise(seed, 3))
                .to_vec(),
            utility: Some(estimate(1.1 + 0.3 * x, 0.2)),
            margin: estimate(0.9 + 0.2 * x, 0.1),
            steps: 240,
            calibration: Some(Calibration {
                error: 0.08,
                bins: (0..6)
                    .map(|bin| CalibrationBin {
                        low: 0.5 + 0.05 * f64::from(bin),
                        high: 0.55 + 0.05 * f64::from(bin),
                        pairs: 300 - 45 * bin as usize,
                        confidence: 0.52 + 0.05 * f64::from(bin),
                        accuracy: 0.52 + 0.04 * f64::from(bin) + 0.02 * noise(bin as u64, 5),
                    })
                    .collect(),
            }),
            series,
            x,
        };
        let contrast = |(series, x): (String, f64)| Contrast {
            difference: estimate(self.accuracy(&series, x) - self.accuracy(self.series[0], x), 0.015),
            adjusted: Some(estimate(
                self.accuracy(&series, x) - self.accuracy(self.series[0], x),
                if x < 0.5 { 0.019 } else { 0.026 },
            )),
            baseline: "dpo".to_owned(),
            measure: Measure::Accuracy,
            p: 0.012,
            p_holm: if x < 0.5 { 0.024 } else { 0.4 },
            verdict: if x < 0.5 { Verdict::Better } else { Verdict::Inconclusive },
            no_verdict: None,
            detectable: Some(0.031),
            is_primary: false,
            identical_to: None,
            smoothed: Some(estimate(0.01, 0.012)),
            steps: [240, 120],
            lost_runs: [0, 0],
            seeds: 2,
            pairs: 1024,
            series,
            x,
        };
        let all = || self.xs.iter().flat_map(|x| each(*x));
        Summary {
            verdict: "With 1 % of the desirable completions kept, KTO is better than DPO by 2.0 points \
                      (95 % interval 0.5 to 3.5, 2 seeds)."
                .to_owned(),
            method: "Accuracy is the share of held-out pairs whose chosen completion has the higher reward. Intervals \
                     resample seeds and prompts together."
                .to_owned(),
            points: all().map(point).collect(),
            contrasts: all()
                .map(contrast)
                .filter(|contrast| contrast.series != "dpo")
                .flat_map(|contrast| [contrast.clone(), Contrast { measure: Measure::Utility, ..contrast }])
                .collect(),
            win_rates: self.win_rates(),
            win_rate_contrasts: self.win_rate_contrasts(),
            scores: Vec::new(),
            score_contrasts: Vec::new(),
            learning_curves: None,
            frontier: self.frontier(),
            retention: Vec::new(),
            findings: self.findings(),
            notes: vec![format!("kto: z0 is 0 in most steps of 2 of 6 runs. {}", self.question)],
            trials: Vec::new(),
            oracle_accuracy: Some(0.71),
            start_accuracy: Some(0.524),
        }
    }
}
