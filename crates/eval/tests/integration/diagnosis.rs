//! Diagnosis of small real runs, with provoked faults and without.

use std::ops::ControlFlow;

use prospect_analysis::diagnose;
use prospect_eval::{GenerationOptions, HeldOut, HeldOutLimits, HeldOutPrompts};
use prospect_model::{Decoder, Model};
use prospect_runs::{GenerationMode, MetricsRecord, RecordKind, Sign};
use prospect_train::{Encoder, Observer, Policy, ReferenceCache, StopReason, TrainError};

use crate::support::{dataset, model, run, settings};

/// Records the metrics that a run of a sweep records.
struct Recorder<'a> {
    held_out: HeldOut,
    generations: HeldOutPrompts<'a>,
    records: Vec<MetricsRecord>,
}

impl Observer for Recorder<'_> {
    fn on_step_end(
        &mut self,
        step: u64,
        total: u64,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        if step == 0 || step == total {
            let mut values = self.held_out.evaluate(policy, step == 0, cache)?.values;
            values.extend(self.generations.generate(policy, 0, None)?.values);
            self.records.push(MetricsRecord { kind: RecordKind::Eval, step, values });
        }
        Ok(ControlFlow::Continue(()))
    }

    fn on_log(&mut self, record: MetricsRecord) -> Result<(), TrainError> {
        self.records.push(record);
        Ok(())
    }
}

/// Trains on one dataset.
struct Trainer {
    folder: tempfile::TempDir,
}

impl Trainer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        dataset(&folder.path().join("data"));
        Self { folder }
    }

    fn run(&self, start: &Model, text: &str) -> (Decoder, Vec<MetricsRecord>) {
        let data = self.folder.path().join("data");
        let settings = settings(text);
        let encoder = Encoder::new(start, settings.max_length, settings.max_prompt_length);
        let options = GenerationOptions { prompts: 8, max_new_tokens: 48, mode: GenerationMode::Greedy };
        let mut recorder = Recorder {
            held_out: HeldOut::read(&data, HeldOutLimits::default(), &settings, &encoder).unwrap(),
            generations: HeldOutPrompts::read(&data, options, &settings, &encoder).unwrap(),
            records: Vec::new(),
        };
        let trained = run(&data, start, &settings, &encoder, &mut recorder);
        (trained.policy, recorder.records)
    }

    /// Model after SFT, whose generations are diverse.
    fn pretrained(&self) -> Model {
        let start = model();
        let text =
            "objective: sft\nlearning_rate: 2e-2\nlr_scheduler_type: cosine\nmax_steps: 120\nbatch_size: 16";
        let (decoder, _) = self.run(&start, text);
        Model { decoder, fingerprint: "pretrained".to_owned(), ..start }
    }

    fn signs(&self, start: &Model, text: &str) -> Vec<Sign> {
        let (_, records) = self.run(start, text);
        let diagnoses = diagnose(&records);
        for diagnosis in &diagnoses {
            eprintln!("{text:?}: {diagnosis:?}");
        }
        if diagnoses.is_empty() {
            eprintln!("{text:?}: {:?}", records.last());
        }
        let signs: Vec<Sign> = diagnoses.into_iter().map(|diagnosis| diagnosis.sign).collect();
        if signs.contains(&Sign::ReferencePointAtZero) {
            let value = |name: &str| records.last().map(|record| record.values[name]);
            assert_eq!(value("eval_kl"), Some(0.0), "clamped");
            assert!(value("eval_kl_unclamped") < Some(-0.1), "{records:?}");
        }
        signs
    }
}

#[test]
fn provoked_faults_are_diagnosed() {
    let trainer = Trainer::new();
    let pretrained = trainer.pretrained();
    let run = |objective: &str, rest: &str| {
        trainer.signs(&pretrained, &format!("objective: {objective}\nmax_steps: 40\nbatch_size: 16\n{rest}"))
    };
    assert_eq!(run("kto", "learning_rate: 2e-4\ndesirable_weight: 1.5"), []);
    assert_eq!(run("dpo", "learning_rate: 2e-4"), []);
    for objective in ["kto", "dpo"] {
        assert_eq!(run(objective, "learning_rate: 1e-8"), [Sign::NoLearning], "{objective}");
    }
    let unstable = run("dpo", "learning_rate: 0.3\nwarmup_steps: 30\nmax_grad_norm: 1e9");
    assert!(unstable.contains(&Sign::Unstable), "{unstable:?}");
    let falling = run("dpo", "learning_rate: 2e-2\nbeta: 0.02");
    assert!(falling.contains(&Sign::ChosenFalling), "{falling:?}");
    let zero_reference = run("kto", "learning_rate: 5e-3\ndesirable_weight: 0.01");
    assert_eq!(zero_reference, [Sign::ReferencePointAtZero]);
}
