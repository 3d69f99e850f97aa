//! What a policy says to held-out prompts, and what that is worth, in small real runs.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use prospect_data::Message;
use prospect_eval::{GenerationOptions, Generations, HeldOutPrompts};
use prospect_runs::{GenerationMode, MetricsRecord};
use prospect_train::{Encoder, Observer, Policy, ReferenceCache, TrainError};

mod support;

use support::{dataset, model, run, settings};

/// Lets the policy speak at the start and at the end.
struct Speaks<'a> {
    generations: &'a HeldOutPrompts<'a>,
    said: Vec<Generations>,
}

impl Observer for Speaks<'_> {
    fn after(
        &mut self,
        step: u64,
        total: u64,
        policy: &Policy<'_>,
        _: &ReferenceCache,
    ) -> Result<(), TrainError> {
        if step == 0 || step == total {
            let letters = |_: &[Message], completion: &str| Some(completion.chars().count() as f64);
            self.said.push(self.generations.generate(policy, 3, Some(&letters))?);
            let again = self.generations.generate(policy, 3, None)?;
            let texts = |said: &Generations| {
                said.generations.iter().map(|g| g.completion.clone()).collect::<Vec<_>>()
            };
            assert_eq!(texts(&self.said[self.said.len() - 1]), texts(&again));
        }
        Ok(())
    }

    fn record(&mut self, _: MetricsRecord) -> Result<(), TrainError> {
        Ok(())
    }
}

const SETTINGS: &str = "objective: kto\nlearning_rate: 1e-2\nmax_steps: 20\nbatch_size: 8";

#[test]
fn a_policy_speaks_and_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    dataset(&data);
    let (model, settings) = (model(), settings(SETTINGS));
    let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
    for mode in [GenerationMode::Greedy, GenerationMode::Nucleus] {
        let options = GenerationOptions { prompts: 5, max_new_tokens: 12, mode };
        let generations = HeldOutPrompts::read(&data, options, &settings, &encoder).unwrap();
        let mut observer = Speaks { generations: &generations, said: Vec::new() };
        run(&data, &model, &settings, &encoder, &mut observer);

        let [start, end] = observer.said.as_slice() else { panic!("at the start and at the end") };
        let value = |said: &Generations, name: &str| said.values[&format!("eval_generations/{name}")];
        assert!(value(start, "kl").abs() < 1e-4, "the policy is the reference at the start");
        assert!(value(end, "kl").abs() > 0.1, "{:?}", end.values);
        let letters: Vec<f64> = end.generations.iter().map(|g| g.utility.unwrap()).collect();
        assert!((value(end, "utility") - letters.iter().sum::<f64>() / 5.0).abs() < 1e-12);
        for said in [start, end] {
            assert_eq!(said.generations.len(), 5);
            assert!(
                said.generations.iter().all(|g| g.tokens <= 12 && g.mode == mode && !g.chosen.is_empty())
            );
            assert!(value(said, "chosen_length") > 5.0);
            assert!((0.0..=1.0).contains(&value(said, "ended")));
        }
        let prompts =
            |said: &Generations| said.generations.iter().map(|g| g.prompt_id.clone()).collect::<Vec<_>>();
        assert_eq!(prompts(start), prompts(end));
    }
}
