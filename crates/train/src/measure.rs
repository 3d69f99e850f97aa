//! How fast a device trains a model of some shape, and in how much memory: random weights, generated examples that are as long
//! as they may be, and the training loop itself.

use std::time::Instant;

use candle_core::{Device, Tensor};
use prospect_data::{Message, PairRow};
use prospect_dist::SingleProcess;
use prospect_model::{
    Activations, Architecture, ChatTemplate, Decoder, Dtype, Lora, Model, Place, Tokenizer, Train, Work,
    device,
};
use prospect_runs::MetricsRecord;
use serde::Serialize;

use crate::{
    Encoder, Job, Observer, PairExample, PlanRequest, Policy, ReferenceCache, Settings, TrainError,
    TrainFile, TrainPlan, TrainingSet, UnpairedExample, settings::Examples, train,
};

/// Steps before the first that counts, in which memory and kernels are set up.
const WARM_UP: u64 = 1;

/// The adapter, on every linear layer of the blocks.
const ADAPTER: Lora = Lora { r: 16, alpha: 32.0 };

/// What is to be timed.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The shape of the model.
    pub architecture: &'a Architecture,
    /// The type of its weights.
    pub dtype: Dtype,
    /// Where it is trained.
    pub device: &'a Device,
    /// How: the objective, the completions of a step, and the length of their sequences.
    pub settings: Settings,
}

/// What a step took.
#[derive(Debug, Clone, Serialize)]
pub struct Timed {
    /// How it was done.
    pub way: TrainPlan,
    /// Seconds of a step, by the median of those after the first.
    pub seconds: f64,
    /// Steps that were timed.
    pub steps: u64,
    /// Tokens that pass through the policy in a step, prompts counted once.
    pub rows: u64,
    /// Rows or pairs of a step.
    pub examples: u64,
    /// Floating-point operations of a step: forward passes of policy and reference, and the backward pass ([`Work`]).
    pub operations: u64,
    /// The most bytes that were in use at once.
    pub peak: Option<u64>,
    /// What the plan said of them.
    pub planned: u64,
    /// The loss of the last step.
    pub loss: f64,
}

impl Timed {
    /// The rate of the arithmetic that a step is made of, in operations a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// What the plan said by what was in use.
    pub fn plan_by_peak(&self) -> Option<f64> {
        self.peak.map(|peak| self.planned as f64 / peak as f64)
    }
}

/// Settings of `steps` timed steps of an objective, each of `completions` completions with sequences of `max_length` tokens,
/// half of them the prompt's.
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

impl Subject<'_> {
    /// What the planner is asked.
    pub fn wanted(&self) -> PlanRequest<'_> {
        let Self { architecture, dtype, device, settings } = self;
        let place = Place::of(device);
        PlanRequest {
            architecture,
            train: Train::Lora(ADAPTER),
            dtype: *dtype,
            settings,
            place,
            ranks: 1,
            sharded: false,
        }
    }

    /// The frozen model.
    pub fn base(&self, way: &TrainPlan) -> Result<Decoder, TrainError> {
        let kept = (self.dtype, way.quantization);
        Ok(Decoder::random_on(self.device, self.architecture.clone(), 0, kept)?)
    }

    /// Trains an adapter beside `base` for the steps of the settings.
    pub fn time(&self, base: Decoder, way: &TrainPlan) -> Result<Timed, TrainError> {
        let settings = Settings { micro_batch_size: way.micro_batch_size, ..self.settings.clone() };
        let (tokenizer, name) = (Tokenizer::bytes()?, "random".to_owned());
        let template = ChatTemplate::chatml(&tokenizer)?;
        let start = Model { name: name.clone(), decoder: base, tokenizer, template, fingerprint: name };
        let encoder = Encoder::new(&start, settings.max_length, settings.max_prompt_length);
        let steps = settings.steps(settings.batch_size);
        let examples = examples(&settings, &encoder, settings.batch_size * steps as usize)?;
        let activations = match way.recomputed {
            0 => Activations::Keep,
            all if all == self.architecture.layers as u64 => Activations::Recompute,
            _ => Activations::Within(way.demand.total()),
        };
        let job = Job {
            start: &start,
            train: Train::Lora(ADAPTER),
            activations,
            settings: &settings,
            examples: &examples,
            encoder: &encoder,
            seed: 0,
            checkpoints: None,
            group: &SingleProcess,
        };
        // Never written: every step's reference is computed.
        let cache = ReferenceCache::at(&std::env::temp_dir().join("prospect-measure-keeps-no-reference"));
        let mut clock = Clock { device: self.device, marks: Vec::new(), rows: Vec::new(), loss: f64::NAN };
        train(&job, &cache, &mut clock)?;

        let batch = settings.longest_batch(settings.batch_size);
        if let Some(rows) = clock.rows.iter().find(|rows| **rows != batch.rows as f64) {
            return Err(TrainError::Examples(format!(
                "a step had {rows} rows, not {}: the figures would be those of another batch",
                batch.rows
            )));
        }
        let work = Work::of(self.architecture, job.train, &batch)?;
        Ok(Timed {
            way: *way,
            seconds: clock.median(),
            steps: steps - WARM_UP,
            rows: batch.rows,
            examples: (settings.batch_size / examples.completions_per_example()) as u64,
            operations: 2 * work.forward + work.adapter + work.backward,
            peak: device::peak(self.device)?,
            planned: way.demand.total(),
            loss: clock.loss,
        })
    }
}

/// Notes when steps end.
struct Clock<'a> {
    device: &'a Device,
    marks: Vec<Instant>,
    rows: Vec<f64>,
    loss: f64,
}

impl Clock<'_> {
    /// Of the seconds between marks, those of the warm-up left out.
    fn median(&self) -> f64 {
        let mut seconds: Vec<f64> = self
            .marks
            .windows(2)
            .skip(WARM_UP as usize)
            .map(|marks| (marks[1] - marks[0]).as_secs_f64())
            .collect();
        seconds.sort_by(f64::total_cmp);
        let (lower, upper) = (seconds.len().saturating_sub(1) / 2, seconds.len() / 2);
        match (seconds.get(lower), seconds.get(upper)) {
            (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
            _ => f64::NAN,
        }
    }
}

impl Observer for Clock<'_> {
    fn after(&mut self, step: u64, _: u64, _: &Policy<'_>, _: &ReferenceCache) -> Result<(), TrainError> {
        self.device.synchronize()?;
        if step == WARM_UP {
            device::forget_peak(self.device)?;
        }
        self.marks.push(Instant::now());
        Ok(())
    }

    fn record(&mut self, record: MetricsRecord) -> Result<(), TrainError> {
        let value = |name: &str| record.values.get(name).copied().unwrap_or(f64::NAN);
        self.rows.push(value("num_tokens") - self.rows.iter().sum::<f64>());
        self.loss = value("loss");
        Ok(())
    }
}

/// `completions` completions, each example under a prompt of its own, all as long as the settings allow.
fn examples(
    settings: &Settings,
    encoder: &Encoder<'_>,
    completions: usize,
) -> Result<TrainingSet, TrainError> {
    let prompt = |length: usize, seed: usize| vec![message("user", text(length, seed))];
    let completion = |seed: usize| vec![message("assistant", text(settings.max_length, seed))];
    let encode = |prompt: &[Message], completion: &[Message]| {
        let encoded = encoder.encode(prompt, completion)?;
        encoded
            .ok_or_else(|| TrainError::Examples(format!("max_length {} is too short", settings.max_length)))
    };
    // One token is one byte, so what the template adds to a prompt is known from any.
    let added = encode(&prompt(1, 0), &completion(0))?.prompt.len() - 1;
    let length = settings.max_prompt_length.saturating_sub(added).max(1);
    if settings.objective.examples() == Examples::Paired {
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

/// Letters that begin with the seed's number.
fn text(length: usize, seed: usize) -> String {
    let letters = (0..length).map(|at| char::from(b'a' + ((at * at + 7 * at + 11 * seed) % 26) as u8));
    seed.to_string().chars().chain(letters).take(length).collect()
}

/// The rate of products of square matrices of `size` rows of normal random numbers, in operations a second: the best of three
/// runs of ten products each.
pub fn product_rate(device: &Device, dtype: Dtype, size: usize) -> Result<f64, TrainError> {
    let matrix = || Tensor::randn(0f32, 1.0, (size, size), device)?.to_dtype(dtype.of_tensors());
    let (left, right) = (matrix()?, matrix()?);
    let run = |count: usize| -> Result<f64, TrainError> {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..count {
            left.matmul(&right)?;
        }
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    };
    run(3)?;
    let best = (0..3)
        .map(|_| run(10))
        .try_fold(f64::INFINITY, |best, seconds| Ok::<_, TrainError>(best.min(seconds?)))?;
    Ok(10.0 * 2.0 * (size as f64).powi(3) / best)
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
            let subject =
                Subject { architecture: &architecture, dtype: Dtype::F32, device: &Device::Cpu, settings };
            // Small enough for every block to be computed again, and two micro-batches.
            let way = subject.wanted().smallest().unwrap().unwrap();
            let way = TrainPlan { quantization: None, micro_batch_size: 2, ..way };
            let timed = subject.time(subject.base(&way).unwrap(), &way).unwrap();
            assert_eq!((timed.steps, timed.examples), (3, examples));
            // Prompts of 32 tokens; completions of 32, the last of which has no row.
            assert_eq!(timed.rows, if objective == "kto" { 4 * 32 + 8 * 31 } else { 2 * 32 + 4 * 31 });
            assert!(timed.seconds > 0.0 && timed.rate() > 0.0 && timed.loss.is_finite());
            assert!(timed.plan_by_peak().is_none_or(|ratio| ratio > 0.0));
        }
    }

    #[test]
    fn the_median_leaves_the_warm_up_out() {
        let start = Instant::now();
        let at = |seconds: &[u64]| {
            let marks = seconds.iter().map(|at| start + std::time::Duration::from_secs(*at)).collect();
            Clock { device: &Device::Cpu, marks, rows: Vec::new(), loss: 0.0 }.median()
        };
        assert_eq!(at(&[0, 100, 101, 111, 113]), 2.0);
        assert_eq!(at(&[0, 100, 101, 104]), 2.0);
        assert!(at(&[0, 100]).is_nan());
    }

    #[test]
    fn products_have_a_rate() {
        assert!(product_rate(&Device::Cpu, Dtype::F32, 64).unwrap() > 1e6);
    }
}
