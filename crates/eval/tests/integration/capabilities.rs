//! Capability tests in small real runs, against log-likelihoods of lm-evaluation-harness.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use prospect_core::config::Document;
use prospect_data::{AnswerForm, QuestionSource};
use prospect_eval::{
    Capabilities, CapabilityResults, ExactOptions, Extractor, LoadedTest, ShotsRequest, TestRequest, TestTask,
};
use prospect_model::{Model, ModelFile};
use prospect_runs::QuestionOutcome;
use prospect_train::{Encoder, Observer, Policy, ReferenceCache, StopReason, TrainError};
use serde::Deserialize;

use crate::support::{dataset, run, settings};

/// Folder of the questions.
const QUESTIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/questions");

/// Largest difference from the golden numbers, in nats.
const TOLERANCE: f64 = 1e-4;

/// Written by `benches/peers/check_lm_eval.py --golden`.
#[derive(Deserialize)]
struct Golden {
    /// Recipe of the model.
    model: String,
    /// Log-likelihood of every choice of every question, by file of questions.
    log_likelihoods: BTreeMap<String, Vec<Vec<f64>>>,
}

fn source(file: &str, form: AnswerForm) -> QuestionSource<'_> {
    let path = Path::new(QUESTIONS).join(format!("{file}.jsonl"));
    QuestionSource { address: file, path, files: None, layout: None, form }
}

fn choices(name: &str) -> LoadedTest {
    let source = source(name, AnswerForm::Choices);
    TestRequest { name, source, limit: None, shots: None, chat: false, task: TestTask::Choices }
        .load()
        .unwrap()
}

/// Generates at most eight tokens after two examples.
fn sums() -> LoadedTest {
    let shots = ShotsRequest { source: source("shots", AnswerForm::Text), count: None };
    let stop = vec!["Question:".to_owned()];
    let options = ExactOptions { max_new_tokens: 8, extract: Extractor::default(), stop };
    TestRequest {
        name: "sums",
        source: source("answers", AnswerForm::Text),
        limit: None,
        shots: Some(shots),
        chat: false,
        task: TestTask::Exact(options),
    }
    .load()
    .unwrap()
}

/// Asks at the start and at the end of training.
struct AskingObserver<'a> {
    capabilities: &'a Capabilities<'a>,
    results: Vec<CapabilityResults>,
}

impl Observer for AskingObserver<'_> {
    fn on_step_end(
        &mut self,
        step: u64,
        total: u64,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        if step == 0 || step == total {
            let before = cache.computed();
            self.results.push(self.capabilities.evaluate(policy, step == 0, cache)?);
            assert_eq!(cache.computed() > before, step == 0, "the start is asked once");
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[test]
fn log_probs_are_those_of_lm_evaluation_harness() {
    let golden: Golden =
        serde_json::from_slice(&fs_err::read(Path::new(QUESTIONS).join("golden.json")).unwrap()).unwrap();
    let file: ModelFile = Document::from_text("model.yaml", &golden.model).unwrap().read().unwrap();
    let model: Model = file.resolve(&|path| Ok(path.into())).unwrap().load().unwrap();
    let mut tests: Vec<LoadedTest> = golden.log_likelihoods.keys().map(|name| choices(name)).collect();
    tests.push(sums());
    let positions = model.decoder.architecture().max_positions;
    let capabilities = Capabilities::new(&tests, &model.tokenizer, &model.template, positions, 4).unwrap();
    assert!(capabilities.counts().all(|counts| counts.asked > 1 && counts.too_long == 0));

    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    dataset(&data);
    let settings = settings("objective: dpo\nlearning_rate: 1e-2\nmax_steps: 4\nbatch_size: 8");
    let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
    let mut observer = AskingObserver { capabilities: &capabilities, results: Vec::new() };
    run(&data, &model, &settings, &encoder, &mut observer);
    let [start, end] = observer.results.as_slice() else { panic!("one result at the start, one at the end") };

    let of_test = |name: &str| -> Vec<&QuestionOutcome> {
        end.outcomes.iter().filter(|question| question.test == name).collect()
    };
    let mut compared = 0;
    for (name, expected) in &golden.log_likelihoods {
        let questions = of_test(name);
        assert_eq!(questions.len(), expected.len(), "{name}");
        for (question, expected) in questions.iter().zip(expected) {
            assert_eq!(question.start.log_probs.len(), expected.len(), "{name}");
            for (ours, theirs) in question.start.log_probs.iter().zip(expected) {
                assert!((ours - theirs).abs() < TOLERANCE, "{name}: {ours} and {theirs}");
                compared += 1;
            }
        }
    }
    assert!(compared > 50, "{compared}");
    // The answers of the start are the same in both evaluations, those of the policy are not.
    for (first, last) in start.outcomes.iter().zip(&end.outcomes) {
        assert_eq!((&first.start, &first.policy), (&last.start, &last.start));
    }
    assert!(end.outcomes.iter().any(|question| question.start != question.policy));
    let written = of_test("sums");
    assert_eq!(written.len(), 6);
    assert!(written.iter().all(|question| question.policy.completion.is_some()));
    assert!(end.values.contains_key("eval_capabilities/sums/exact_match"));
}

#[test]
fn long_questions_are_left_out_and_counted() {
    let tests = [choices("arc"), sums()];
    let model = crate::support::model();
    let counts = |positions: usize| {
        let capabilities =
            Capabilities::new(&tests, &model.tokenizer, &model.template, positions, 4).unwrap();
        let counts = capabilities.counts().map(|counts| (counts.asked, counts.too_long));
        counts.collect::<Vec<_>>()
    };
    assert_eq!(counts(1000), [(5, 0), (6, 0)]);
    assert_eq!(counts(10), [(0, 5), (0, 6)]);
    // `Question: Which planet do we live on?` and `Answer: Earth` are 51 bytes, of which the last has no row.
    assert_eq!(counts(50)[0].0, 1);
    assert_eq!(counts(49)[0].0, 0);
}
