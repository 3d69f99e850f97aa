//! Diagnosis of small real runs, with provoked faults and without.

use std::ops::ControlFlow;

use prospect_analysis::{HeldOutResult, diagnose, stats::binomial_exact};
use prospect_eval::{GenerationOptions, HeldOut, HeldOutLimits, HeldOutPrompts};
use prospect_model::{Decoder, Model};
use prospect_runs::{GenerationMode, Measure, MetricsRecord, RecordKind, Sign};
use prospect_train::{Encoder, Observer, Policy, ReferenceCache, StopReason, TrainError};

use crate::support::{dataset_of, model, run, settings};

/// Records the metrics that a run of a sweep records.
struct Recorder<'a> {
    held_out: HeldOut,
    generations: HeldOutPrompts<'a>,
    records: Vec<MetricsRecord>,
    /// Result of the last evaluation.
    result: Option<HeldOutResult>,
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
            let evaluation = self.held_out.evaluate(policy, step == 0, cache)?;
            let ranked = evaluation.outcomes.iter().filter(|pair| pair.chosen > pair.rejected).count();
            let estimate = binomial_exact(ranked as u64, evaluation.outcomes.len() as u64).unwrap();
            self.result = Some(HeldOutResult { measure: Measure::Accuracy, estimate });
            let mut values = evaluation.values;
            values.extend(self.generations.generate(policy, step == 0, cache, 0, None)?.values);
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
    /// Holds half of `pairs` out.
    fn new(pairs: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recipe = format!("source: {{kind: synthetic, pairs: {pairs}}}\nsplit: {{test_fraction: 0.5}}");
        dataset_of(&folder.path().join("data"), &recipe);
        Self { folder }
    }

    fn run(&self, start: &Model, text: &str) -> (Decoder, Vec<MetricsRecord>, Option<HeldOutResult>) {
        let data = self.folder.path().join("data");
        let settings = settings(text);
        let encoder = Encoder::new(start, settings.max_length, settings.max_prompt_length);
        let options = GenerationOptions { prompts: 8, max_new_tokens: 48, mode: GenerationMode::Greedy };
        let mut recorder = Recorder {
            held_out: HeldOut::read(&data, HeldOutLimits::default(), &settings, &encoder).unwrap(),
            generations: HeldOutPrompts::read(&data, options, &settings, &encoder).unwrap(),
            records: Vec::new(),
            result: None,
        };
        let trained = run(&data, start, &settings, &encoder, &mut recorder);
        (trained.policy, recorder.records, recorder.result)
    }

    /// Model after SFT, whose generations are diverse.
    fn pretrained(&self) -> Model {
        let start = model();
        let text =
            "objective: sft\nlearning_rate: 2e-2\nlr_scheduler_type: cosine\nmax_steps: 120\nbatch_size: 16";
        let (decoder, ..) = self.run(&start, text);
        Model { decoder, fingerprint: "pretrained".to_owned(), ..start }
    }

    fn signs(&self, start: &Model, text: &str) -> Vec<Sign> {
        let (_, records, result) = self.run(start, text);
        let diagnoses = diagnose(&records, result);
        for diagnosis in &diagnoses {
            eprintln!("{text:?}: {diagnosis:?}");
        }
        if diagnoses.is_empty() {
            eprintln!("{text:?}: {:?}", records.last());
        }
        diagnoses.into_iter().map(|diagnosis| diagnosis.sign).collect()
    }
}

#[test]
fn provoked_faults_are_diagnosed() {
    let (trainer, few) = (Trainer::new(640), Trainer::new(32));
    let pretrained = trainer.pretrained();
    let on = |trainer: &Trainer, objective: &str, rest: &str| {
        trainer.signs(&pretrained, &format!("objective: {objective}\nmax_steps: 40\nbatch_size: 16\n{rest}"))
    };
    let run = |objective: &str, rest: &str| on(&trainer, objective, rest);
    assert_eq!(run("kto", "learning_rate: 1e-3\ndesirable_weight: 1.5"), []);
    assert_eq!(run("dpo", "learning_rate: 1e-3"), []);
    // The direction of a tiny step ranks pairs as well as a real one, so it takes few pairs to see
    // nothing.
    for objective in ["kto", "dpo"] {
        assert_eq!(on(&few, objective, "learning_rate: 1e-8"), [Sign::NoLearning], "{objective}");
    }
    let broken = run("dpo", "learning_rate: 0.3\nwarmup_steps: 30\nmax_grad_norm: 1e9");
    let expected = [Sign::RanAway, Sign::ModeCollapse, Sign::NoLongerEnds];
    assert!(expected.iter().all(|sign| broken.contains(sign)), "{broken:?}");
    let away = run("dpo", "learning_rate: 2e-2\nbeta: 0.02");
    assert!(away.contains(&Sign::RanAway), "{away:?}");
}
