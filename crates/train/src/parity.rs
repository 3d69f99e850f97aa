//! Parity of a device with the CPU on small models: log-probs, gradients, steps and generation.

mod cases;

use candle_core::{DType, Device, Tensor};
use prospect_core::draw::Draw;
use prospect_model::{
    Activations, Adapter, Architecture, Decoder, Dtype, GenerationConfig, Gradients, LoraConfig, PackedBatch,
    Packer, Parameter, Prompt, Quantization, Sampling, Train,
};
use prospect_runs::MetricsRecord;
use serde::Serialize;

use crate::{Observer, Settings, TrainError, TrainFile, planner::benchmark::train_on_generated};

/// Optimizer steps of a case.
const STEPS: u64 = 3;

/// Small model and training method whose results two devices must agree on.
#[derive(Debug, Clone)]
pub struct ParityCase {
    /// Name, for reports.
    pub name: &'static str,
    architecture: Architecture,
    dtype: Dtype,
    train: Train,
    quantization: Option<Quantization>,
    activations: Activations,
    objective: &'static str,
}

/// Largest differences between two devices in a case, as fractions of the tolerance: 1 or more is a
/// failure.
#[derive(Debug, Clone, Serialize)]
pub struct ParityResult {
    /// Name of the case.
    pub case: &'static str,
    /// Difference of log-probs of completions, relative to 1 + their size.
    pub log_probs: f64,
    /// Norm of the difference of gradients, relative to that of the parameter's gradient and of all
    /// gradients.
    pub gradients: f64,
    /// Parameter with the largest difference of gradients.
    pub parameter: String,
    /// Difference of losses and gradient norms of three optimizer steps, relative to their size.
    pub steps: f64,
    /// Share of greedily generated tokens that are equal; None in half precision, where ties are
    /// likely.
    pub same_tokens: Option<f64>,
}

impl ParityResult {
    /// Returns whether the devices agree.
    pub fn passed(&self) -> bool {
        // NaN fails.
        [self.log_probs, self.gradients, self.steps].iter().all(|error| *error < 1.0)
            && self.same_tokens.is_none_or(|share| share == 1.0)
    }
}

/// Tolerances of a case.
struct Tolerance {
    log_probs: f64,
    gradients: f64,
    steps: f64,
}

impl ParityCase {
    /// Returns all cases.
    pub fn all() -> Result<Vec<Self>, TrainError> {
        cases::all()
    }

    /// Runs the case on the CPU and on `device`, and compares.
    pub fn run(&self, device: &Device) -> Result<ParityResult, TrainError> {
        Ok(self.compare(&self.measure(&Device::Cpu)?, &self.measure(device)?))
    }

    fn tolerance(&self) -> Tolerance {
        match self.dtype {
            Dtype::F32 => Tolerance { log_probs: 1e-5, gradients: 1e-4, steps: 1e-4 },
            // Both devices round, each in its own order.
            Dtype::Bf16 => Tolerance { log_probs: 0.01, gradients: 0.02, steps: 0.02 },
        }
    }

    fn compare(&self, expected: &Measured, found: &Measured) -> ParityResult {
        let tolerance = self.tolerance();
        let relative = |(expected, found): (&f64, &f64)| (found - expected).abs() / (1.0 + expected.abs());
        let log_probs = largest(expected.log_probs.iter().zip(&found.log_probs).map(relative));
        let total = norm(expected.gradients.iter().flat_map(|(_, gradient)| gradient));
        let (parameter, gradients) = expected
            .gradients
            .iter()
            .zip(&found.gradients)
            .map(|((name, expected), (_, found))| {
                let difference: Vec<f64> =
                    expected.iter().zip(found).map(|(expected, found)| found - expected).collect();
                // Small gradients are small differences of large terms.
                (name, norm(&difference) / (norm(expected) + total))
            })
            .max_by(|(_, left), (_, right)| left.total_cmp(right))
            .map_or((String::new(), f64::NAN), |(name, error)| (name.clone(), error));
        let steps = largest(expected.steps.iter().flatten().zip(found.steps.iter().flatten()).map(relative));
        let lengths = [&expected.steps, &found.steps].map(Vec::len);
        let tokens = expected.tokens.iter().zip(&found.tokens);
        let same = tokens.filter(|(expected, found)| expected == found).count();
        ParityResult {
            case: self.name,
            log_probs: log_probs / tolerance.log_probs,
            gradients: gradients / tolerance.gradients,
            parameter,
            steps: if lengths == [STEPS as usize; 2] { steps / tolerance.steps } else { f64::NAN },
            same_tokens: (self.dtype != Dtype::Bf16).then(|| same as f64 / expected.tokens.len() as f64),
        }
    }

    fn measure(&self, device: &Device) -> Result<Measured, TrainError> {
        let base = self.base_model(device)?;
        let policy = self.policy(&base)?;
        let prompts = [tokens(1, 9), tokens(2, 5), tokens(3, 14)];
        let completions: Vec<Vec<u32>> = (0..6).map(|index| tokens(10 + index, 3 + 2 * index)).collect();
        let batch = pack(&prompts, &completions)?;
        let (log_probs, saved) = policy.forward(&batch, self.activations)?;
        let mut gradients = Gradients::none(policy.parameters());
        let seed: Vec<f64> = (0..log_probs.len()).map(|index| 0.7 - 0.4 * index as f64).collect();
        policy.backward(saved, &seed, &mut gradients)?;
        let gradient = |(name, parameter): (&str, _)| {
            let Some(gradient) = gradients.get(parameter) else {
                return Err(TrainError::Examples(format!("{name} has no gradient")));
            };
            let values = gradient.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
            Ok((name.to_owned(), values))
        };
        let gradients = policy.parameters().iter().map(gradient).collect::<Result<_, _>>()?;
        let asked: Vec<Prompt<'_>> = prompts.iter().map(|tokens| Prompt { id: "", tokens }).collect();
        let generation = GenerationConfig {
            sampling: Sampling::Greedy,
            max_new_tokens: 8,
            eos_token_ids: Vec::new(),
            seed: 0,
            batch_size: 2,
        };
        let generated = policy.generate(&asked, &generation, Adapter::On)?;
        let tokens = generated.into_iter().flat_map(|generated| generated.tokens).collect();
        Ok(Measured { log_probs, gradients, steps: self.steps(base)?, tokens })
    }

    /// Returns the frozen base model: with weights large enough that every part has an effect,
    /// biases and norms included, unless it is quantized.
    fn base_model(&self, device: &Device) -> Result<Decoder, TrainError> {
        let base = Decoder::random_on(device, self.architecture.clone(), 0, self.dtype, self.quantization)?;
        if self.quantization.is_some() {
            return Ok(base);
        }
        let all = base.with_all_trained()?;
        for (name, parameter) in all.parameters().iter() {
            let shape = parameter.value().dims();
            let (centre, width) = match shape {
                [_, inputs] => (0.0, 2.0 / (*inputs as f64).sqrt()),
                _ if name.ends_with("weight") => (1.0, 0.5),
                _ => (0.0, 0.5),
            };
            let values = draws(name, parameter.value().elem_count(), centre, width);
            set(parameter, &values, self.dtype)?;
        }
        Ok(all.merged()?)
    }

    /// Returns the policy, with an adapter that has an effect or with all weights trained.
    fn policy(&self, base: &Decoder) -> Result<Decoder, TrainError> {
        let Train::Lora(lora) = self.train else { return Ok(base.with_all_trained()?) };
        let policy = base.with_lora(lora, 1)?;
        for (name, parameter) in policy.parameters().iter().filter(|(name, _)| name.contains("lora_B")) {
            set(parameter, &draws(name, parameter.value().elem_count(), 0.0, 0.2), Dtype::F32)?;
        }
        Ok(policy)
    }

    /// Trains on generated examples and returns the loss and the gradient norm of each step.
    fn steps(&self, base: Decoder) -> Result<Vec<[f64; 2]>, TrainError> {
        let file = serde_json::json!({
            "objective": self.objective, "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2,
            "max_length": 40, "max_steps": STEPS, "warmup_ratio": 0.0,
        });
        let file: TrainFile =
            serde_json::from_value(file).map_err(|error| TrainError::Settings(error.to_string()))?;
        let settings: Settings = file.resolve()?;
        let mut trajectory = Trajectory(Vec::new());
        train_on_generated(base, self.train, self.activations, &settings, &mut trajectory)?;
        Ok(trajectory.0)
    }
}

/// Results of a case on one device.
struct Measured {
    log_probs: Vec<f64>,
    gradients: Vec<(String, Vec<f64>)>,
    /// Loss and gradient norm of each step.
    steps: Vec<[f64; 2]>,
    /// Generated tokens of all prompts.
    tokens: Vec<u32>,
}

/// Records loss and gradient norm of every step.
struct Trajectory(Vec<[f64; 2]>);

impl Observer for Trajectory {
    fn on_log(&mut self, record: MetricsRecord) -> Result<(), TrainError> {
        let value = |name: &str| record.values.get(name).copied().unwrap_or(f64::NAN);
        self.0.push([value("loss"), value("grad_norm")]);
        Ok(())
    }
}

/// Largest value; NaN if one is NaN or there is none.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.max_by(f64::total_cmp).unwrap_or(f64::NAN)
}

fn norm<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Token ids of a sequence.
fn tokens(seed: usize, count: usize) -> Vec<u32> {
    (0..count).map(|at| ((at * at + 7 * at + 13 * seed) % 251) as u32).collect()
}

/// Packs two completions of each prompt. The last one has no gradient.
fn pack(prompts: &[Vec<u32>], completions: &[Vec<u32>]) -> Result<PackedBatch, TrainError> {
    let mut packer = Packer::default();
    for (prompt, pair) in prompts.iter().zip(completions.chunks(2)) {
        let prompt = packer.add_prompt(prompt);
        for completion in pair {
            let last = completions.last().is_some_and(|last| std::ptr::eq(last, completion));
            packer.add_completion(prompt, completion, !last);
        }
    }
    Ok(packer.pack()?)
}

/// Draws uniform numbers within `width` of `centre`.
fn draws(name: &str, count: usize, centre: f64, width: f64) -> Vec<f32> {
    let draw = Draw::new(0, name);
    let uniform = |index: usize| draw.bits(&index.to_string()) as f64 / u64::MAX as f64;
    (0..count).map(|index| (centre + width * (2.0 * uniform(index) - 1.0)) as f32).collect()
}

/// Sets a parameter to values rounded to `dtype`.
fn set(parameter: &Parameter, values: &[f32], dtype: Dtype) -> Result<(), TrainError> {
    let value = parameter.value();
    let values = Tensor::from_slice(values, value.shape(), &Device::Cpu)?.to_dtype(dtype.to_candle())?;
    parameter.var().set(&values.to_dtype(value.dtype())?.to_device(value.device())?)?;
    Ok(())
}

/// Adapter of the cases that train one.
const ADAPTER: LoraConfig = LoraConfig { r: 4, alpha: 8.0 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself() {
        for case in ParityCase::all().unwrap() {
            let result = case.run(&Device::Cpu).unwrap();
            assert!(result.passed(), "{result:?}");
            assert_eq!((result.log_probs, result.gradients, result.steps), (0.0, 0.0, 0.0), "{result:?}");
        }
    }

    #[test]
    fn differences_are_found() {
        let case = ParityCase::all().unwrap().swap_remove(0);
        let expected = case.measure(&Device::Cpu).unwrap();
        let off = |change: fn(&mut Measured)| {
            let mut found = case.measure(&Device::Cpu).unwrap();
            change(&mut found);
            case.compare(&expected, &found)
        };
        assert!(expected.log_probs.iter().all(|log_prob| *log_prob < -1.0));
        assert!(!off(|found| found.log_probs[1] += 0.01).passed());
        assert!(!off(|found| found.log_probs[1] = f64::NAN).passed());
        let wrong = off(|found| found.gradients[3].1.fill(0.0));
        assert!(!wrong.passed() && wrong.parameter == expected.gradients[3].0, "{wrong:?}");
        assert!(!off(|found| found.steps[2][1] *= 1.01).passed());
        assert!(!off(|found| found.steps.truncate(2)).passed());
        assert!(!off(|found| found.tokens[0] += 1).passed());
    }
}
