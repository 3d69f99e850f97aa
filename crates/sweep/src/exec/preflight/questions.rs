//! Questions of capability tests against the position limit of the model.

use std::collections::BTreeMap;

use prospect_eval::{AskedQuestions, Capabilities};

use crate::{SweepError, plan::SweepPlan};

/// Checks that every test has a question that fits into the model.
pub(super) struct QuestionCheck<'a> {
    plan: &'a SweepPlan,
    /// Problems, by model.
    problems: BTreeMap<usize, Option<String>>,
}

impl<'a> QuestionCheck<'a> {
    pub(super) fn new(plan: &'a SweepPlan) -> Self {
        Self { plan, problems: BTreeMap::new() }
    }

    /// Returns an error message if a model can be asked no question of a test. Warns, once for each
    /// model, about questions that are left out.
    pub(super) fn problem(&mut self, model: usize) -> Result<Option<String>, SweepError> {
        if let Some(known) = self.problems.get(&model) {
            return Ok(known.clone());
        }
        let problem = self.find(model)?;
        self.problems.insert(model, problem.clone());
        Ok(problem)
    }

    fn find(&self, model: usize) -> Result<Option<String>, SweepError> {
        let tests = self.plan.tests.all()?;
        if tests.is_empty() {
            return Ok(None);
        }
        let recipe = &self.plan.models[model];
        let limit = recipe.architecture()?.max_positions;
        let (tokenizer, template) = recipe.load_text()?;
        let capabilities = Capabilities::new(tests, &tokenizer, &template, limit, 1)?;
        for AskedQuestions { test, asked, too_long } in capabilities.counts() {
            if asked == 0 {
                return Ok(Some(format!(
                    "capability test `{test}`: no question fits into the {limit} positions of {} \
                     (max_position_embeddings): use fewer `shots`, a smaller `max_new_tokens`, or other questions",
                    recipe.name
                )));
            }
            if too_long > 0 {
                tracing::warn!(
                    "capability test {test}: {too_long} of {} questions are left out, since they exceed the {limit} \
                     positions of {}",
                    asked + too_long,
                    recipe.name
                );
            }
        }
        Ok(None)
    }
}
