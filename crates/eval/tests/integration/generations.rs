//! Generations for held-out prompts, and their metrics, in small real runs.

use std::ops::ControlFlow;

use prospect_data::Message;
use prospect_eval::{GenerationOptions, Generations, HeldOut, HeldOutLimits, HeldOutPrompts, PolicySamples};
use prospect_model::{LoraConfig, Model, Train};
use prospect_runs::{GenerationMode, MetricsRecord};
use prospect_train::{Encoder, Observer, Policy, ReferenceCache, StopReason, TrainError};

use crate::support::{dataset, model, model_of, run, run_from, settings};

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
        cache: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        if step == 0 || step == total {
            let letters = |_: &[Message], completion: &str| Some(completion.chars().count() as f64);
            let result = self.prompts.generate(policy, step == 0, cache, 3, Some(&letters))?;
            let again = self.prompts.generate(policy, false, cache, 3, Some(&letters))?;
            assert_eq!(result, again);
            self.results.push(result);
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
        cache: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        if step.is_multiple_of(10) {
            self.results.push(self.prompts.sample(policy, step, cache, 3, None)?);
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

/// Evaluates the start with and without the cache, and counts the entries that were computed.
struct StartObserver<'a> {
    prompts: &'a HeldOutPrompts<'a>,
    held_out: HeldOut,
    computed: usize,
    texts: Vec<String>,
}

impl Observer for StartObserver<'_> {
    fn on_step_end(
        &mut self,
        step: u64,
        _: u64,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        if step > 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let before = cache.computed();
        let (seed, at_start) = (policy.beta().to_bits(), true);
        let shared = self.prompts.generate(policy, at_start, cache, seed, None)?;
        let samples = self.prompts.sample(policy, 0, cache, 3, None)?;
        let evaluation = self.held_out.evaluate(policy, at_start, cache)?;
        self.computed = cache.computed() - before;

        assert_eq!(shared, self.prompts.generate(policy, false, cache, seed, None)?);
        let apart = self.prompts.sample(policy, 1, cache, 3, None)?;
        assert_eq!(samples.values, apart.values);
        for (shared, apart) in samples.samples.iter().zip(&apart.samples) {
            assert_eq!(
                (&shared.completion, shared.tokens, shared.ended),
                (&apart.completion, apart.tokens, apart.ended)
            );
            assert_eq!(
                [shared.kl, shared.log_ratio].map(f64::to_bits),
                [apart.kl, apart.log_ratio].map(f64::to_bits)
            );
        }
        assert_eq!(evaluation.outcomes, self.held_out.evaluate(policy, false, cache)?.outcomes);
        self.texts = shared.generations.into_iter().map(|generation| generation.completion).collect();
        Ok(ControlFlow::Continue(()))
    }
}

#[test]
fn runs_evaluate_their_start_once_and_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    dataset(&data);
    let options = GenerationOptions { prompts: 6, max_new_tokens: 12, mode: GenerationMode::Greedy };
    let lora = Train::Lora(LoraConfig { r: 4, alpha: 8.0 });
    for (index, dtype) in ["f32", "bf16"].into_iter().enumerate() {
        let model = Model { fingerprint: format!("start {index}"), ..model_of(dtype) };
        let mut computed = Vec::new();
        // Seeds and β differ; full training starts from the same policy as an adapter.
        for (beta, train) in [(0.1, lora), (0.2, lora), (0.1, Train::Full)] {
            let text =
                format!("objective: dpo\nbeta: {beta}\nlearning_rate: 1e-3\nmax_steps: 1\nbatch_size: 4");
            let settings = settings(&text);
            let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
            let prompts = HeldOutPrompts::read(&data, options, &settings, &encoder).unwrap();
            let limits = HeldOutLimits { pairs: Some(5), thumbs: Some(0) };
            let held_out = HeldOut::read(&data, limits, &settings, &encoder).unwrap();
            let mut observer = StartObserver { prompts: &prompts, held_out, computed: 0, texts: Vec::new() };
            run_from(&data, (&model, train), &settings, &encoder, &mut observer);
            assert_eq!(observer.texts.len(), 6);
            computed.push((observer.computed, observer.texts));
        }
        let [(first, texts), others @ ..] = computed.as_slice() else { panic!("three runs") };
        // Greedy completions and samples of six prompts, five pairs and their mismatched completions.
        assert_eq!(*first, 6 + 6 + 5 * 3, "{dtype}");
        assert!(others.iter().all(|other| *other == (0, texts.clone())), "{dtype}: {others:?}");
    }
}
