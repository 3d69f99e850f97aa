//! Work of a run's evaluations: completions to score, and prompts to continue.

use prospect_data::SplitCounts;
use prospect_model::{Architecture, BatchSize, Dtype, Flops, Train};
use prospect_runs::GenerationMode;
use prospect_train::Settings;
use serde::Serialize;

use crate::{SweepError, config::EvaluateFile};

/// Completions and prompts of all evaluations of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EvaluationCounts {
    /// Completions to score, counted once for each pass of the policy or of the reference.
    pub(super) scored: u64,
    /// Prompts to continue.
    pub(super) continued: u64,
}

/// Parts of the evaluation before a run's first step that earlier runs have cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CachedStart {
    /// Log-probabilities of held-out feedback.
    pub(super) held_out: bool,
    /// Completions of held-out prompts.
    pub(super) generations: bool,
    /// Samples at temperature 1.
    pub(super) samples: bool,
}

impl CachedStart {
    /// `earlier` are the seeds of earlier runs with the same start and held-out feedback, `mode` is
    /// how they continue held-out prompts.
    pub(super) fn new(earlier: impl Iterator<Item = u64>, seed: u64, mode: Option<GenerationMode>) -> Self {
        let mut cached = Self::default();
        for other in earlier {
            cached.held_out = true;
            cached.samples |= other == seed;
        }
        let is_greedy = mode == Some(GenerationMode::Greedy);
        Self { generations: if is_greedy { cached.held_out } else { cached.samples }, ..cached }
    }
}

impl EvaluationCounts {
    /// Counts the work of a run of `steps` optimizer steps.
    ///
    /// `test` is the size of the test split, `corrupted` the number of corrupted training pairs and
    /// of clean ones beside them, and `cached` what earlier runs have cached of its start.
    pub(super) fn new(
        evaluate: &EvaluateFile,
        test: SplitCounts,
        steps: u64,
        corrupted: u64,
        cached: CachedStart,
    ) -> Self {
        let SplitCounts { pairs, prompts, n_desirable, n_undesirable } = test;
        let limited = |count: u64, limit: Option<usize>| limit.map_or(count, |limit| count.min(limit as u64));
        let lone = (n_desirable + n_undesirable).saturating_sub(2 * pairs);
        let completions = 2 * limited(pairs, evaluate.pairs) + limited(lone, evaluate.thumbs);
        // The policy is evaluated in between and at the end. The evaluation at the start ranks by
        // the reference, which an earlier run may have cached.
        let between = evaluate.every.map_or(0, |every| steps.saturating_sub(1) / every.max(1));
        let evaluations = between + 1 + u64::from(!cached.held_out);
        let prompts =
            evaluate.generations.map_or(0, |generations| prompts.min(generations.prompts.get() as u64));
        // At the end, and at the start unless an earlier run has cached the texts. Samples also in
        // between; the KL divergence costs about as much as the log-ratios of other generations.
        let generations = 1 + u64::from(!cached.generations);
        let every = evaluate.generations.and_then(|generations| generations.every);
        let at_start = u64::from(!cached.samples);
        let samples = every.map_or(0, |every| 1 + at_start + steps.saturating_sub(1) / every);
        // Two completions of a corrupted pair, by the policy and by the reference.
        Self {
            scored: evaluations * completions + 4 * corrupted,
            continued: (generations + samples) * prompts,
        }
    }
}

/// Arithmetic of evaluations, in floating-point operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct EvaluationCost {
    /// Passes over whole sequences: held-out completions, and prompts and completions of
    /// generations.
    pub scoring: f64,
    /// Generation, one token of each prompt at a time.
    pub decoding: f64,
}

impl EvaluationCost {
    /// Computes the cost of a run's evaluations, with sequences of the lengths in `settings`.
    pub(super) fn new(
        counts: EvaluationCounts,
        evaluate: &EvaluateFile,
        train: Train,
        architecture: &Architecture,
        settings: &Settings,
    ) -> Result<Self, SweepError> {
        let flops = |batch: &BatchSize| Flops::for_batch(architecture, train, batch);
        // An even number, so that pairs are whole.
        let completions = 2;
        let scored = flops(&settings.longest_batch(completions))?;
        let completion = (scored.forward + scored.adapter) as f64 / completions as f64;
        let mut cost = Self { scoring: counts.scored as f64 * completion, decoding: 0.0 };
        if let Some(generations) = evaluate.generations {
            let prompt = settings.max_prompt_length as u64;
            let tokens = generations.max_new_tokens.get() as u64;
            // The prompt is read once, and both policy and reference score the completion.
            let read = flops(&without_gradient(0, prompt, 1))?;
            let rated = flops(&without_gradient(0, prompt + tokens - 1, tokens))?;
            let decoded = flops(&without_gradient(prompt, tokens, tokens))?;
            let continued = counts.continued as f64;
            let whole = read.forward + read.adapter + 2 * rated.forward + rated.adapter;
            cost.scoring += continued * whole as f64;
            cost.decoding += continued * (decoded.forward + decoded.adapter) as f64;
        }
        Ok(cost)
    }

    /// Adds the cost of another run.
    pub(super) fn add(&mut self, other: Self) {
        self.scoring += other.scoring;
        self.decoding += other.decoding;
    }
}

/// Returns the size of a pass over `rows` rows behind `before` others, `scored` of them scored.
pub(super) fn without_gradient(before: u64, rows: u64, scored: u64) -> BatchSize {
    BatchSize {
        rows,
        gradient_rows: 0,
        scored,
        gradient_scored: 0,
        longest: before + rows,
        attended: rows * before + rows * (rows + 1) / 2,
        gradient_attended: 0,
    }
}

/// Returns the bytes of an element.
pub(super) fn element_bytes(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 4,
        Dtype::Bf16 => 2,
    }
}

/// Returns the number of prompts that a run continues at the same time; None without generations.
pub(super) fn prompts_at_once(
    evaluate: &EvaluateFile,
    dtype: Dtype,
    architecture: &Architecture,
    settings: &Settings,
) -> Option<usize> {
    let options = evaluate.generations?.options();
    let tokens = settings.max_prompt_length + options.max_new_tokens;
    let cache = architecture.cache_bytes(tokens, element_bytes(dtype));
    Some(options.prompts_at_once(cache, settings.micro_batch_size).min(options.prompts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(yaml: &str) -> EvaluateFile {
        prospect_core::config::Document::from_text("evaluate.yaml", yaml).unwrap().read().unwrap()
    }

    const TEST: SplitCounts = SplitCounts { prompts: 10, pairs: 20, n_desirable: 25, n_undesirable: 22 };

    #[test]
    fn every_evaluation_scores_the_held_out_feedback() {
        let counts = |yaml: &str, steps, corrupted, held_out| {
            let cached = CachedStart { held_out, ..CachedStart::default() };
            let EvaluationCounts { scored, continued } =
                EvaluationCounts::new(&evaluate(yaml), TEST, steps, corrupted, cached);
            (scored, continued)
        };
        // 20 pairs and 7 thumbs outside of pairs, at the start and at the end.
        assert_eq!(counts("{}", 100, 0, false), (2 * 47, 0));
        assert_eq!(counts("{}", 100, 0, true), (47, 0));
        // After 30, 60 and 90 steps as well.
        assert_eq!(counts("every: 30", 100, 0, true), (4 * 47, 0));
        // The last step is the end.
        assert_eq!(counts("every: 50", 100, 0, true), (2 * 47, 0));
        assert_eq!(counts("{pairs: 5, thumbs: 2}", 100, 3, true), (12 + 12, 0));
        assert_eq!(counts("generations: {prompts: 4}", 100, 0, true), (47, 8));
        assert_eq!(counts("generations: {prompts: 50}", 100, 0, true), (47, 20));
        // Samples at 0, 40, 80 and 100 steps, beside two generations.
        assert_eq!(counts("generations: {prompts: 4, every: 40}", 100, 0, true), (47, 24));
    }

    #[test]
    fn a_start_that_an_earlier_run_shares_is_generated_once() {
        let cached = |earlier: &[u64], mode| CachedStart::new(earlier.iter().copied(), 1, Some(mode));
        let yaml = evaluate("generations: {prompts: 4, every: 40}");
        let continued = |cached| EvaluationCounts::new(&yaml, TEST, 100, 0, cached).continued;
        assert_eq!(continued(cached(&[], GenerationMode::Greedy)), 24);
        assert_eq!(continued(cached(&[0], GenerationMode::Greedy)), 20, "samples depend on the seed");
        assert_eq!(continued(cached(&[0], GenerationMode::Nucleus)), 24);
        assert_eq!(continued(cached(&[0, 1], GenerationMode::Nucleus)), 16);
    }

    #[test]
    fn a_generated_token_costs_a_row_of_every_matrix() {
        let architecture: Architecture = serde_json::from_str(
            r#"{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 5, "num_hidden_layers": 3,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6, "max_position_embeddings": 32}"#,
        )
        .unwrap();
        let settings = prospect_train::benchmark::settings("sft", 4, 8, 1).unwrap();
        assert_eq!((settings.max_prompt_length, settings.max_length), (4, 8));
        let evaluate = evaluate("generations: {prompts: 2, max_new_tokens: 3}");
        let counts = EvaluationCounts { scored: 5, continued: 6 };
        let cost = EvaluationCost::new(counts, &evaluate, Train::Full, &architecture, &settings).unwrap();
        // q, k, v, output, gate, up and down of three layers, and 12 query dimensions in each.
        let (matrices, head, attention) = (3 * (96 + 48 + 48 + 96 + 3 * 40), 8 * 11, 3 * 12);
        // A completion: four rows of prompt, three of completion, four scored tokens.
        let completion = 2 * 7 * matrices + 2 * 4 * head + 4 * 28 * attention;
        let read = 2 * 4 * matrices + 2 * head + 4 * 10 * attention;
        let rated = 2 * 6 * matrices + 2 * 3 * head + 4 * 21 * attention;
        assert_eq!(cost.scoring, f64::from(5 * completion + 6 * (read + 2 * rated)));
        // Three tokens that attend to 5, 6 and 7 rows.
        assert_eq!(cost.decoding, f64::from(6 * (2 * 3 * matrices + 2 * 3 * head + 4 * 18 * attention)));
        assert_eq!(prompts_at_once(&evaluate, Dtype::F32, &architecture, &settings), Some(2));
    }
}
