//! Generations for held-out prompts, and their metrics, in small real runs.

use std::ops::ControlFlow;

use prospect_data::Message;
use prospect_eval::{GenerationOptions, Generations, HeldOutPrompts, PolicySamples};
use prospect_runs::{GenerationMode, MetricsRecord};
use prospect_train::{Encoder, Observer, Policy, ReferenceCache, StopReason, TrainError};

use crate::support::{dataset, model, run, settings};

/// Generates at the start and at the end of training.
struct GeneratingObserver<'a> {
    prompts: &'a HeldOutPrompts<'a>,
    results: Vec<Generations>,
}

impl Observer for GeneratingObserver<'_> {
    fn on_step_end(
        &mut self,
        step: u64,
        total: u64,
        policy: &Policy<'_>,
        _: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        if step == 0 || step == total {
            let letters = |_: &[Message], completion: &str| Some(completion.chars().count() as f64);
            self.results.push(self.prompts.generate(policy, 3, Some(&letters))?);
            let again = self.prompts.generate(policy, 3, None)?;
            let texts = |result: &Generations| {
                result.generations.iter().map(|g| g.completion.clone()).collect::<Vec<_>>()
            };
            assert_eq!(self.results.last().map(texts), Some(texts(&again)));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn on_log(&mut self, _: MetricsRecord) -> Result<(), TrainError> {
        Ok(())
    }
}

const SETTINGS: &str = "objective: kto\nlearning_rate: 1e-2\nmax_steps: 20\nbatch_size: 8";

#[test]
fn generations_are_repeatable_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    dataset(&data);
    let (model, settings) = (model(), settings(SETTINGS));
    let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
    for mode in [GenerationMode::Greedy, GenerationMode::Nucleus] {
        let options = GenerationOptions { prompts: 5, max_new_tokens: 12, mode };
        let prompts = HeldOutPrompts::read(&data, options, &settings, &encoder).unwrap();
        let mut observer = GeneratingObserver { prompts: &prompts, results: Vec::new() };
        run(&data, &model, &settings, &encoder, &mut observer);

        let [start, end] = observer.results.as_slice() else {
            panic!("one result at the start, one at the end")
        };
        let value = |result: &Generations, name: &str| result.values[&format!("eval_generations/{name}")];
        assert!(value(start, "kl").abs() < 1e-4, "the policy is the reference at the start");
        assert!(value(end, "kl").abs() > 0.1, "{:?}", end.values);
        let letters: Vec<f64> = end.generations.iter().map(|g| g.utility.unwrap()).collect();
        assert!((value(end, "utility") - letters.iter().sum::<f64>() / 5.0).abs() < 1e-12);
        for result in [start, end] {
            assert_eq!(result.generations.len(), 5);
            assert!(
                result.generations.iter().all(|g| g.tokens <= 12 && g.mode == mode && g.chosen.is_some())
            );
            assert!(value(result, "chosen_length") > 5.0);
            assert!((0.0..=1.0).contains(&value(result, "ended")));
        }
        let prompt_ids =
            |result: &Generations| result.generations.iter().map(|g| g.prompt_id.clone()).collect::<Vec<_>>();
        assert_eq!(prompt_ids(start), prompt_ids(end));
    }
}

/// Samples at the start, in the middle and at the end of training.
struct SamplingObserver<'a> {
    prompts: &'a HeldOutPrompts<'a>,
    results: Vec<PolicySamples>,
}

impl Observer for SamplingObserver<'_> {
    fn on_step_end(
        &mut self,
        step: u64,
        _: u64,
        policy: &Policy<'_>,
        _: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        if step.is_multiple_of(10) {
            self.results.push(self.prompts.sample(policy, step, 3, None)?);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn on_log(&mut self, _: MetricsRecord) -> Result<(), TrainError> {
        Ok(())
    }
}

#[test]
fn samples_have_a_kl_divergence_of_0_at_the_start_and_a_positive_one_later() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    dataset(&data);
    let (model, settings) = (model(), settings(SETTINGS));
    let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
    let options = GenerationOptions { prompts: 24, max_new_tokens: 12, mode: GenerationMode::Greedy };
    let prompts = HeldOutPrompts::read(&data, options, &settings, &encoder).unwrap();
    let mut observer = SamplingObserver { prompts: &prompts, results: Vec::new() };
    run(&data, &model, &settings, &encoder, &mut observer);
    let [start, middle, end] = observer.results.as_slice() else { panic!("three steps") };
    assert!(start.samples.iter().all(|sample| sample.kl == 0.0 && sample.log_ratio.abs() < 1e-4));
    for later in [middle, end] {
        assert!(later.samples.iter().all(|sample| sample.kl > 0.0 && sample.tokens <= 12));
        let (kl, log_ratio) = (later.values["eval_samples/kl"], later.values["eval_samples/log_ratio"]);
        // Both estimate one quantity; log-ratios vary more.
        let spread = (later.samples.iter().map(|sample| (sample.log_ratio - kl).powi(2)).sum::<f64>()
            / later.samples.len() as f64)
            .sqrt();
        assert!((kl - log_ratio).abs() < 4.0 * spread / (later.samples.len() as f64).sqrt());
    }
    assert_eq!([start, middle, end].map(|result| result.samples[0].step), [0, 10, 20]);
    assert!(end.values["eval_samples/kl"] > 0.05, "{:?}", end.values);
}
