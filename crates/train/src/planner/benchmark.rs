//! Benchmark of the training loop on random weights and generated examples.
//!
//! All sequences have their maximum length, as the memory planner assumes, so measured peak memory
//! and planned memory can be compared.

use std::{ops::ControlFlow, time::Instant};

use candle_core::{Device, Tensor};
use prospect_core::sample::median;
use prospect_data::{Message, PairRow};
use prospect_dist::SingleProcess;
use prospect_model::{
    Activations, Architecture, ChatTemplate, Decoder, DeviceKind, Dtype, Flops, LoraConfig, Model, Tokenizer,
    Train, device,
};
use prospect_runs::MetricsRecord;
use serde::Serialize;

use super::{PlanRequest, TrainPlan};
use crate::{
    Encoder, FeedbackFormat, Observer, PairExample, Policy, ReferenceCache, Settings, StopReason,
    TrainContext, TrainError, TrainFile, TrainingSet, UnpairedExample, train,
};

/// Steps that are not timed, in which memory and kernels are set up.
const WARM_UP: u64 = 1;

/// Adapter on every linear layer of the blocks.
const ADAPTER: LoraConfig = LoraConfig { r: 16, alpha: 32.0 };

/// Model, device and settings to benchmark.
#[derive(Debug, Clone)]
pub struct Benchmark<'a> {
    /// Architecture of the model.
    pub architecture: &'a Architecture,
    /// Element type of the weights.
    pub dtype: Dtype,
    /// Device to train on.
    pub device: &'a Device,
    /// Objective, batch size and sequence length.
    pub settings: Settings,
}

/// Time and memory of a training step.
#[derive(Debug, Clone, Serialize)]
pub struct BenchmarkResult {
    /// Plan that was benchmarked.
    #[serde(rename = "way")]
    pub plan: TrainPlan,
    /// Median seconds of a step, without the warm-up.
    pub seconds: f64,
    /// Timed steps.
    pub steps: u64,
    /// Tokens per step that run through the policy; a shared prompt counts once.
    pub rows: u64,
    /// Rows or pairs per step.
    pub examples: u64,
    /// Floating-point operations per step: forward passes of policy and reference, and the backward
    /// pass ([`Flops`]).
    pub operations: u64,
    /// Peak memory in bytes; `None` where the device does not report it.
    pub peak: Option<u64>,
    /// Planned memory in bytes.
    pub planned: u64,
    /// Loss of the last step.
    pub loss: f64,
}

impl BenchmarkResult {
    /// Floating-point operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// Ratio of planned to peak memory.
    pub fn plan_by_peak(&self) -> Option<f64> {
        self.peak.map(|peak| self.planned as f64 / peak as f64)
    }
}

/// Returns settings for `steps` timed steps of `completions` completions, with sequences of
/// `max_length` tokens, half of them prompt.
pub fn settings(
    objective: &str,
    completions: usize,
    max_length: usize,
    steps: u64,
) -> Result<Settings, TrainError> {
    let file = serde_json::json!({
        "objective": objective, "learning_rate": 1e-5, "batch_size": completions, "max_length": max_length,
        "max_steps": WARM_UP + steps,
    });
    let file: TrainFile =
        serde_json::from_value(file).map_err(|error| TrainError::Settings(error.to_string()))?;
    file.resolve()
}

impl Benchmark<'_> {
    /// Returns the planner's request for this benchmark.
    pub fn plan_request(&self) -> PlanRequest<'_> {
        let Self { architecture, dtype, device, settings } = self;
        let place = DeviceKind::from(*device);
        PlanRequest {
            architecture,
            train: Train::Lora(ADAPTER),
            dtype: *dtype,
            settings,
            place,
            ranks: 1,
            zero: None,
        }
    }

    /// Creates the frozen base model with random weights, quantized as planned.
    pub fn base_model(&self, plan: &TrainPlan) -> Result<Decoder, TrainError> {
        Ok(Decoder::random_drawn_on(self.device, self.architecture.clone(), self.dtype, plan.quantization)?)
    }

    /// Trains an adapter on `base` and times the steps.
    pub fn run(&self, base: Decoder, plan: &TrainPlan) -> Result<BenchmarkResult, TrainError> {
        let settings = Settings { micro_batch_size: plan.micro_batch_size, ..self.settings.clone() };
        let method = Train::Lora(ADAPTER);
        let activations = Activations::RecomputeFirst(plan.recomputed as usize);
        let mut timer = StepTimer::new(self.device);
        let examples = train_on_generated(base, method, activations, &settings, &mut timer)?;

        let batch = settings.longest_batch(settings.batch_size);
        if let Some(rows) = timer.rows.iter().find(|rows| **rows != batch.rows as f64) {
            return Err(TrainError::Examples(format!(
                "a step of the benchmark had {rows} rows, not the planned {}",
                batch.rows
            )));
        }
        let flops = Flops::for_batch(self.architecture, method, &batch)?;
        Ok(BenchmarkResult {
            plan: *plan,
            seconds: timer.step_seconds(),
            steps: settings.steps(settings.batch_size) - WARM_UP,
            rows: batch.rows,
            examples: (settings.batch_size / examples.completions_per_example()) as u64,
            operations: 2 * flops.forward + flops.adapter + flops.backward,
            peak: timer.peak,
            planned: plan.demand.total(),
            loss: timer.loss,
        })
    }
}

/// Records when steps end, and the peak memory of the timed ones.
struct StepTimer<'a> {
    device: &'a Device,
    ends: Vec<Instant>,
    rows: Vec<f64>,
    loss: f64,
    peak: Option<u64>,
}

impl<'a> StepTimer<'a> {
    fn new(device: &'a Device) -> StepTimer<'a> {
        StepTimer { device, ends: Vec::new(), rows: Vec::new(), loss: f64::NAN, peak: None }
    }

    /// Median seconds of a step, without the warm-up; NaN if no step was timed.
    fn step_seconds(&self) -> f64 {
        let steps = self.ends.windows(2).skip(WARM_UP as usize);
        median(steps.map(|ends| (ends[1] - ends[0]).as_secs_f64())).unwrap_or(f64::NAN)
    }
}

impl Observer for StepTimer<'_> {
    fn on_step_end(
        &mut self,
        step: u64,
        total: u64,
        _: &Policy<'_>,
        _: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        self.device.synchronize()?;
        if step == WARM_UP {
            device::reset_peak_memory(self.device)?;
        }
        // What follows the last step is no part of it.
        if step == total {
            self.peak = device::peak_memory(self.device)?;
        }
        self.ends.push(Instant::now());
        Ok(ControlFlow::Continue(()))
    }

    fn on_log(&mut self, record: MetricsRecord) -> Result<(), TrainError> {
        let value = |name: &str| record.values.get(name).copied().unwrap_or(f64::NAN);
        self.rows.push(value("num_tokens") - self.rows.iter().sum::<f64>());
        self.loss = value("loss");
        Ok(())
    }
}

/// Trains `base` by `method` on generated examples, which every step sees for the first time, and
/// returns them. Runs on one device, without a cache of reference log-probs.
pub(crate) fn train_on_generated(
    base: Decoder,
    method: Train,
    activations: Activations,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<TrainingSet, TrainError> {
    let (tokenizer, name) = (Tokenizer::bytes()?, "random".to_owned());
    let template = ChatTemplate::chatml(&tokenizer)?;
    let (fingerprint, text_fingerprint) = (name.clone(), name.clone());
    let model = Model { name, decoder: base, tokenizer, template, fingerprint, text_fingerprint };
    let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
    let steps = settings.steps(settings.batch_size);
    let examples = generate_examples(settings, &encoder, settings.batch_size * steps as usize)?;
    let context = TrainContext {
        model: &model,
        train: method,
        activations,
        settings,
        examples: &examples,
        encoder: &encoder,
        seed: 0,
        checkpoints: None,
        zero: None,
        group: &SingleProcess,
    };
    // Never saved, so every step computes its reference log-probs.
    let cache = ReferenceCache::new(&std::env::temp_dir().join("prospect-keeps-no-reference"));
    train(&context, &cache, observer)?.into_policy()?;
    Ok(examples)
}

/// Generates examples with `completions` completions, each with its own prompt and at maximum
/// length.
pub(crate) fn generate_examples(
    settings: &Settings,
    encoder: &Encoder<'_>,
    completions: usize,
) -> Result<TrainingSet, TrainError> {
    let prompt = |length: usize, seed: usize| vec![message("user", text(length, seed))];
    let completion = |seed: usize| vec![message("assistant", text(settings.max_length, seed))];
    let encode = |prompt: &[Message], completion: &[Message]| {
        let encoded = encoder.encode(prompt, completion)?;
        encoded.ok_or_else(|| {
            TrainError::Examples(format!("max_length {} is too short; raise it", settings.max_length))
        })
    };
    // One token is one byte, so every prompt has the same number of template tokens.
    let added = encode(&prompt(1, 0), &completion(0))?.prompt.len() - 1;
    let length = settings.max_prompt_length.saturating_sub(added).max(1);
    if settings.objective.feedback_format() == FeedbackFormat::Paired {
        let pair = |index: usize| {
            let prompt = prompt(length, index);
            let (chosen, rejected) = (completion(2 * index), completion(2 * index + 1));
            Ok(PairExample {
                chosen: encode(&prompt, &chosen)?,
                rejected: encode(&prompt, &rejected)?,
                row: PairRow {
                    pair_id: index.to_string(),
                    prompt_id: index.to_string(),
                    prompt,
                    chosen,
                    rejected,
                    source: "generated".to_owned(),
                    domain: "generated".to_owned(),
                    score_chosen: None,
                    score_rejected: None,
                    noise: "none".to_owned(),
                    swapped: false,
                    group: None,
                },
            })
        };
        return Ok(TrainingSet::Paired((0..completions / 2).map(pair).collect::<Result<_, TrainError>>()?));
    }
    let example = |index: usize| {
        let (prompt, completion) = (prompt(length, index), completion(index));
        Ok(UnpairedExample {
            encoded: encode(&prompt, &completion)?,
            prompt_id: index.to_string(),
            prompt,
            completion,
            desirable: index.is_multiple_of(2),
            weight: 1.0,
            corrupted: false,
        })
    };
    Ok(TrainingSet::Unpaired((0..completions).map(example).collect::<Result<_, TrainError>>()?))
}

fn message(role: &str, content: String) -> Message {
    Message { role: role.to_owned(), content }
}

/// Returns `length` characters: the seed, then letters.
fn text(length: usize, seed: usize) -> String {
    let letters = (0..length).map(|at| char::from(b'a' + ((at * at + 7 * at + 11 * seed) % 26) as u8));
    seed.to_string().chars().chain(letters).take(length).collect()
}

/// Measures products of square matrices of `size` rows, filled with normal random numbers. Returns
/// floating-point operations per second, the best of three runs of ten products each.
pub fn matmul_rate(device: &Device, dtype: Dtype, size: usize) -> Result<f64, TrainError> {
    product_rate(device, dtype, [size; 3], 10)
}

/// Measures products of a `rows` × `inner` matrix and an `inner` × `columns` one, as
/// [`matmul_rate`] does, the best of three runs of `count` products each.
pub fn product_rate(
    device: &Device,
    dtype: Dtype,
    [rows, inner, columns]: [usize; 3],
    count: usize,
) -> Result<f64, TrainError> {
    let matrix = |rows: usize, columns: usize| {
        Tensor::randn(0f32, 1.0, (rows, columns), device)?.to_dtype(dtype.to_candle())
    };
    let (left, right) = (matrix(rows, inner)?, matrix(inner, columns)?);
    let run = |count: usize| -> Result<f64, TrainError> {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..count {
            left.matmul(&right)?;
        }
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    };
    run(count.div_ceil(3))?;
    let best = (0..3)
        .map(|_| run(count))
        .try_fold(f64::INFINITY, |best, seconds| Ok::<_, TrainError>(best.min(seconds?)))?;
    Ok(2.0 * (count * rows * inner * columns) as f64 / best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn architecture() -> Architecture {
        serde_json::from_str(
            r#"{"vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 128}"#,
        )
        .unwrap()
    }

    #[test]
    fn steps_have_the_batch_that_was_planned_for() {
        let architecture = architecture();
        for (objective, completions, examples) in [("kto", 4, 4), ("dpo", 4, 2)] {
            let settings = settings(objective, completions, 64, 3).unwrap();
            let benchmark =
                Benchmark { architecture: &architecture, dtype: Dtype::F32, device: &Device::Cpu, settings };
            // Recomputes every block, and has two micro-batches.
            let plan = benchmark.plan_request().smallest_plan().unwrap().unwrap();
            let plan = TrainPlan { quantization: None, micro_batch_size: 2, ..plan };
            let result = benchmark.run(benchmark.base_model(&plan).unwrap(), &plan).unwrap();
            assert_eq!((result.steps, result.examples), (3, examples));
            // Prompts have 32 tokens, completions 32; the last token of a completion is not run.
            assert_eq!(result.rows, if objective == "kto" { 4 * 32 + 8 * 31 } else { 2 * 32 + 4 * 31 });
            assert!(result.seconds > 0.0 && result.rate() > 0.0 && result.loss.is_finite());
            assert!(result.plan_by_peak().is_none_or(|ratio| ratio > 0.0));
        }
    }

    #[test]
    fn the_median_excludes_the_warm_up() {
        let start = Instant::now();
        let at = |seconds: &[u64]| {
            let ends = seconds.iter().map(|at| start + std::time::Duration::from_secs(*at)).collect();
            StepTimer { ends, ..StepTimer::new(&Device::Cpu) }.step_seconds()
        };
        assert_eq!(at(&[0, 100, 101, 111, 113]), 2.0);
        assert_eq!(at(&[0, 100, 101, 104]), 2.0);
        assert!(at(&[0, 100]).is_nan());
    }

    #[test]
    fn matrix_products_have_a_rate() {
        assert!(matmul_rate(&Device::Cpu, Dtype::F32, 64).unwrap() > 1e6);
        assert!(product_rate(&Device::Cpu, Dtype::F32, [2, 64, 32], 3).unwrap() > 1e5);
    }
}
