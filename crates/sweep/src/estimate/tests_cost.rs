//! Work of capability tests.

use prospect_eval::{Capabilities, GenerationOptions, QuestionShape};
use prospect_model::{Architecture, BatchSize, Dtype, Flops, Train};
use prospect_runs::GenerationMode;
use prospect_train::Settings;

use super::evaluation::{EvaluationCost, element_bytes, without_gradient};
use crate::{SweepError, plan::SweepPlan};

/// Returns the tokens of all questions of the plan's tests for a model.
pub(super) fn question_shapes(
    plan: &SweepPlan,
    model: usize,
    architecture: &Architecture,
) -> Result<Vec<QuestionShape>, SweepError> {
    let tests = plan.tests.loaded();
    if tests.is_empty() {
        return Ok(Vec::new());
    }
    let (tokenizer, template) = plan.models[model].load_text()?;
    let capabilities = Capabilities::new(tests, &tokenizer, &template, architecture.max_positions, 1)?;
    Ok(capabilities.shapes().collect())
}

/// Computes the cost of a run's capability tests, at the start, unless an earlier run has asked it,
/// and at the end.
pub(super) fn cost_of_tests(
    shapes: &[QuestionShape],
    is_start_cached: bool,
    train: Train,
    architecture: &Architecture,
) -> Result<EvaluationCost, SweepError> {
    let operations = |batch: &BatchSize| -> Result<f64, SweepError> {
        let flops = Flops::for_batch(architecture, train, batch)?;
        let start = if is_start_cached { 0 } else { flops.forward };
        Ok((flops.forward + flops.adapter + start) as f64)
    };
    let mut cost = EvaluationCost::default();
    for shape in shapes {
        let prompt = shape.prompt as u64;
        if shape.choices.is_empty() {
            let tokens = shape.generated as u64;
            cost.scoring += operations(&without_gradient(0, prompt, 1))?;
            cost.decoding += operations(&without_gradient(prompt, tokens, tokens))?;
        } else {
            cost.scoring += operations(&choices_of(prompt, &shape.choices))?;
        }
    }
    Ok(cost)
}

/// Returns the number of questions that a run writes answers to at the same time; None without such
/// questions.
pub(super) fn questions_at_once(
    shapes: &[QuestionShape],
    dtype: Dtype,
    architecture: &Architecture,
    settings: &Settings,
) -> Option<usize> {
    let generated = || shapes.iter().filter(|shape| shape.choices.is_empty());
    let longest = generated().map(|shape| shape.prompt + shape.generated).max()?;
    let bytes = architecture.cache_bytes(longest, element_bytes(dtype));
    let options =
        GenerationOptions { prompts: generated().count(), max_new_tokens: 0, mode: GenerationMode::Greedy };
    Some(options.prompts_at_once(bytes, settings.micro_batch_size).min(options.prompts))
}

/// Returns the size of a pass over a prompt with its choices, whose last tokens have no row.
fn choices_of(prompt: u64, choices: &[usize]) -> BatchSize {
    let mut batch = without_gradient(0, prompt, 0);
    for tokens in choices.iter().map(|tokens| *tokens as u64) {
        let choice = without_gradient(prompt, tokens.saturating_sub(1), tokens);
        batch.rows += choice.rows;
        batch.scored += choice.scored;
        batch.attended += choice.attended;
        batch.longest = batch.longest.max(choice.longest);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_share_the_rows_of_their_prompt() {
        let batch = choices_of(10, &[1, 3]);
        // The prompt's ten rows and two of the longer choice; one and three scored tokens.
        assert_eq!((batch.rows, batch.scored, batch.longest), (12, 4, 12));
        // 1 + … + 10, then 11 and 12.
        assert_eq!(batch.attended, 55 + 11 + 12);
    }

    #[test]
    fn a_cached_start_saves_a_pass() {
        let architecture: Architecture = serde_json::from_str(
            r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 5, "num_hidden_layers": 3,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6, "max_position_embeddings": 32}"#,
        )
        .unwrap();
        let shapes = [
            QuestionShape { prompt: 5, choices: vec![1, 2], generated: 0 },
            QuestionShape { prompt: 4, choices: Vec::new(), generated: 3 },
        ];
        let cost = |cached| cost_of_tests(&shapes, cached, Train::Full, &architecture).unwrap();
        assert_eq!(cost(false).scoring, 2.0 * cost(true).scoring);
        assert_eq!(cost(false).decoding, 2.0 * cost(true).decoding);
        assert!(cost(true).decoding > 0.0);
    }
}
