//! Decoders with bf16 weights on the CPU, which compute in mixed precision, and kernels of every
//! instruction set.

use super::*;
use crate::ops::Isa;

/// The weights of [`Rough`] in a type, as f64.
struct Exact(DType);

impl TensorSource for Exact {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        Ok(Rough(self.0).get(name, shape)?.to_dtype(DType::F64)?)
    }
}

fn norm(x: &Tensor) -> f64 {
    dot(x, x).sqrt()
}

#[test]
fn results_are_those_of_f64_within_rounding_for_every_instruction_set() {
    for isa in Isa::of_this_machine() {
        isa.limiting(|| {
            assert_close_to_f64(DType::BF16, 0.02, 0.04);
            assert_close_to_f64(DType::F32, 1e-5, 1e-5);
        });
    }
}

/// Compares log-probs and gradients of all architectures with those in f64.
fn assert_close_to_f64(dtype: DType, of_log_probs: f64, of_gradients: f64) {
    for (name, architecture) in architectures() {
        let base = decoder(&architecture, dtype);
        let exact = Decoder::frozen(architecture.clone(), &mut Exact(dtype)).unwrap();
        let pairs = [
            ("lora", with_adapter(&base), with_adapter(&exact)),
            ("full", base.with_all_trained().unwrap(), exact.with_all_trained().unwrap()),
        ];
        for (kind, ours, exact) in pairs {
            // Four norms a block amplify rounding.
            let tolerance = if name.starts_with("gemma") { 5.0 * of_gradients } else { of_gradients };
            let name = format!("{name}, {kind}, {dtype:?}");
            let log_probs = |decoder: &Decoder| decoder.log_probs(&batch(), Adapter::On).unwrap();
            for (ours, exact) in log_probs(&ours).iter().zip(log_probs(&exact)) {
                assert!((ours - exact).abs() < of_log_probs * (1.0 + exact.abs()), "{name}: {ours} {exact}");
            }
            let (of_ours, of_exact) =
                (gradients(&ours, Activations::Keep), gradients(&exact, Activations::Keep));
            let pairs: Vec<_> = ours.parameters().iter().zip(exact.parameters().iter()).collect();
            let exact = |index: usize| of_exact.get(pairs[index].1.1).unwrap();
            let total = (0..pairs.len()).map(|index| norm(exact(index)).powi(2)).sum::<f64>().sqrt();
            let mut square = 0.0;
            for (index, ((parameter_name, parameter), _)) in pairs.iter().enumerate() {
                let ours = of_ours.get(parameter).unwrap().to_dtype(DType::F64).unwrap();
                let error = norm(&(ours - exact(index)).unwrap());
                square += error * error;
                // Small gradients are small differences of large terms.
                let allowed = tolerance * (norm(exact(index)) + total);
                assert!(error < allowed, "{name}: {parameter_name} is off by {error}");
            }
            assert!(square.sqrt() < tolerance * total, "{name}: off by {} of {total}", square.sqrt());
        }
    }
}

#[test]
fn recomputed_activations_give_the_same_bits() {
    for (name, architecture) in architectures() {
        let decoder = with_adapter(&decoder(&architecture, DType::BF16));
        let [keep, recompute] =
            [Activations::Keep, Activations::Recompute].map(|activations| gradients(&decoder, activations));
        for (parameter_name, parameter) in decoder.parameters().iter() {
            let bits = |gradients: &Gradients| {
                gradients.get(parameter).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            assert_eq!(bits(&keep), bits(&recompute), "{name}: {parameter_name}");
        }
    }
}

#[test]
fn a_new_adapter_has_no_effect_and_can_be_switched_off() {
    let base = llama(DType::BF16);
    let expected = base.log_probs(&batch(), Adapter::Off).unwrap();
    assert_eq!(with_adapter(&base).log_probs(&batch(), Adapter::Off).unwrap(), expected);
    let fresh = base.with_lora(LoraConfig { r: 2, alpha: 4.0 }, 0).unwrap();
    assert_eq!(fresh.log_probs(&batch(), Adapter::On).unwrap(), expected);
    assert!(fresh.parameters().iter().all(|(_, parameter)| parameter.value().dtype() == DType::F32));
}

#[test]
fn cached_generation_continues_like_the_whole_forward_pass() {
    let decoder = with_adapter(&llama(DType::BF16));
    let prompts = to_continue();
    let ask: Vec<_> = prompts.iter().map(|tokens| Prompt { id: "", tokens }).collect();
    let how = GenerationConfig {
        sampling: Sampling::Greedy,
        max_new_tokens: 1,
        eos_token_ids: Vec::new(),
        seed: 0,
        batch_size: 2,
    };
    let generated = decoder.generate(&ask, &how, Adapter::On).unwrap();
    for (prompt, generated) in prompts.iter().zip(&generated) {
        let logits = decoder.logits(prompt, Adapter::On).unwrap().get(prompt.len() - 1).unwrap();
        assert_eq!(generated.tokens, [logits.argmax(0).unwrap().to_scalar::<u32>().unwrap()]);
    }
}
