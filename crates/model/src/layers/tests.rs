//! Layers and the whole decoder: finite differences, candle's autograd, packing.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::log_softmax;

use crate::{
    Activations, Adapter, Architecture, Decoder, Gradients, Lora, PackedBatch, Packer, RotaryPairs,
    ops::tests::{assert_gradient, dot},
    parameters::Weight,
    weights::{Random, normal},
};
use prospect_core::draw::Draw;

use super::{BlockContext, Linear};

fn architecture(tied: bool) -> Architecture {
    Architecture {
        vocabulary: 23,
        hidden: 8,
        intermediate: 12,
        layers: 2,
        query_heads: 4,
        key_heads: 2,
        head_dim: 4,
        max_positions: 32,
        rope_theta: 100.0,
        epsilon: 1e-5,
        tied,
        rotary_pairs: RotaryPairs::Halves,
    }
}

fn decoder(tied: bool, dtype: DType) -> Decoder {
    let mut weights = Random { seed: 5, dtype, device: Device::Cpu, deviation: 0.3 };
    Decoder::frozen(architecture(tied), &mut weights).unwrap()
}

/// An adapter that does something: B is not zero.
fn adapted(tied: bool, dtype: DType) -> Decoder {
    let decoder = decoder(tied, dtype).with_lora(Lora { r: 2, alpha: 3.0 }, 1).unwrap();
    for (name, parameter) in decoder.parameters().iter().filter(|(name, _)| name.contains("lora_B")) {
        let value = normal(&Draw::new(2, name), parameter.value().elem_count(), 0.3);
        let value = Tensor::from_vec(value, parameter.value().shape(), &Device::Cpu).unwrap();
        parameter.var().set(&value.to_dtype(dtype).unwrap()).unwrap();
    }
    decoder
}

const PROMPTS: [&[u32]; 2] = [&[1, 2, 3, 4], &[5, 6]];
const COMPLETIONS: [(usize, &[u32], bool); 4] =
    [(0, &[7, 8, 9], true), (0, &[10], true), (1, &[11, 12, 13, 14], true), (1, &[7, 8, 9], false)];

fn batch() -> PackedBatch {
    let mut packer = Packer::default();
    let prompts = PROMPTS.map(|prompt| packer.prompt(prompt));
    for (prompt, tokens, gradient) in COMPLETIONS {
        packer.completion(prompts[prompt], tokens, gradient);
    }
    packer.pack().unwrap()
}

/// d loss / d log π of each completion; the last takes no gradient.
const SEED: [f64; 4] = [0.7, -1.3, 0.4, 0.0];

fn loss(log_probs: &[f64]) -> f64 {
    log_probs.iter().zip(SEED).map(|(log_prob, seed)| log_prob * seed).sum()
}

fn gradients(decoder: &Decoder, activations: Activations) -> Gradients {
    let mut gradients = Gradients::none(decoder.parameters());
    let (_, saved) = decoder.forward(&batch(), activations).unwrap();
    decoder.backward(saved, &SEED, &mut gradients).unwrap();
    gradients
}

/// The loss by candle's own differentiable operations, one unpacked sequence at a time: shares no code with the layers.
fn oracle_loss(decoder: &Decoder) -> Tensor {
    let a = decoder.architecture();
    let linear = |x: &Tensor, linear: &Linear| {
        let y = x.matmul(&linear.weight.value().t().unwrap()).unwrap();
        let Some(lora) = &linear.lora else { return y };
        let down = x.matmul(&lora.a.value().t().unwrap()).unwrap();
        (y + (down.matmul(&lora.b.value().t().unwrap()).unwrap() * lora.scale).unwrap()).unwrap()
    };
    let norm = |x: &Tensor, weight: &Weight| {
        let square = x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
        let rms = (square + a.epsilon).unwrap().sqrt().unwrap();
        x.broadcast_div(&rms).unwrap().broadcast_mul(weight.value()).unwrap()
    };
    let mut total = Tensor::zeros((), decoder.dtype(), &Device::Cpu).unwrap();
    for ((prompt, completion, _), seed) in COMPLETIONS.into_iter().zip(SEED) {
        let tokens = [PROMPTS[prompt], completion].concat();
        let count = tokens.len();
        let index = Tensor::new(tokens.as_slice(), &Device::Cpu).unwrap();
        let mut x = decoder.embedding.value().index_select(&index, 0).unwrap();
        let mask: Vec<f64> =
            (0..count * count).map(|i| if i % count > i / count { f64::NEG_INFINITY } else { 0.0 }).collect();
        let mask =
            Tensor::from_vec(mask, (count, count), &Device::Cpu).unwrap().to_dtype(decoder.dtype()).unwrap();
        let (cos, sin) = &decoder.rotation;
        let (cos, sin) = (cos.narrow(0, 0, count).unwrap(), sin.narrow(0, 0, count).unwrap());
        for block in &decoder.blocks {
            let normed = norm(&x, &block.attention_norm.weight);
            let heads = |x: Tensor, heads: usize| {
                x.reshape((count, heads, a.head_dim)).unwrap().transpose(0, 1).unwrap().contiguous().unwrap()
            };
            let rotate = |x: Tensor| {
                candle_nn::rotary_emb::rope_slow(&x.unsqueeze(0).unwrap(), &cos, &sin)
                    .unwrap()
                    .squeeze(0)
                    .unwrap()
            };
            let q = rotate(heads(linear(&normed, &block.q), a.query_heads));
            let k = rotate(heads(linear(&normed, &block.k), a.key_heads));
            let v = heads(linear(&normed, &block.v), a.key_heads);
            let outputs: Vec<_> = (0..a.query_heads)
                .map(|head| {
                    let of = |x: &Tensor, head: usize| x.get(head).unwrap();
                    let group = head / (a.query_heads / a.key_heads);
                    let scores = of(&q, head).matmul(&of(&k, group).t().unwrap()).unwrap();
                    let scores = ((scores / (a.head_dim as f64).sqrt()).unwrap() + &mask).unwrap();
                    candle_nn::ops::softmax(&scores, D::Minus1).unwrap().matmul(&of(&v, group)).unwrap()
                })
                .collect();
            x = (x + linear(&Tensor::cat(&outputs, 1).unwrap(), &block.o)).unwrap();
            let normed = norm(&x, &block.mlp_norm.weight);
            let active = (linear(&normed, &block.gate).silu().unwrap() * linear(&normed, &block.up)).unwrap();
            x = (x + linear(&active, &block.down)).unwrap();
        }
        let logits =
            norm(&x, &decoder.head.norm.weight).matmul(&decoder.head.weight.value().t().unwrap()).unwrap();
        let log_probs = log_softmax(&logits, D::Minus1).unwrap();
        for (offset, target) in completion.iter().enumerate() {
            let log_prob =
                log_probs.get(PROMPTS[prompt].len() - 1 + offset).unwrap().get(*target as usize).unwrap();
            total = (total + (log_prob * seed).unwrap()).unwrap();
        }
    }
    total
}

#[test]
fn gradients_equal_those_of_candles_autograd() {
    for (name, decoder) in [
        ("lora", adapted(true, DType::F64)),
        ("lora, untied", adapted(false, DType::F64)),
        ("full", decoder(true, DType::F64).with_all_trained().unwrap()),
        ("full, untied", decoder(false, DType::F64).with_all_trained().unwrap()),
    ] {
        let oracle = oracle_loss(&decoder);
        let ours = loss(&decoder.log_probs(&batch(), Adapter::On).unwrap());
        assert!((ours - oracle.to_scalar::<f64>().unwrap()).abs() < 1e-10, "{name}");
        let expected = oracle.backward().unwrap();
        for activations in [Activations::Keep, Activations::Recompute] {
            let gradients = gradients(&decoder, activations);
            for (parameter_name, parameter) in decoder.parameters().iter() {
                let gradient = gradients.get(parameter).expect("every trainable weight receives a gradient");
                let expected = expected.get(parameter.value()).unwrap();
                let scale = dot(expected, expected).sqrt();
                let error = (gradient - expected).unwrap();
                assert!(scale > 1e-6, "{name}: {parameter_name} has no gradient to compare");
                assert!(dot(&error, &error).sqrt() < 1e-9 * scale, "{name}: {parameter_name}");
            }
        }
    }
}

#[test]
fn a_whole_model_gradient_is_a_derivative() {
    let decoder = adapted(true, DType::F64);
    let gradients = gradients(&decoder, Activations::Keep);
    for (name, parameter) in decoder.parameters().iter().take(6) {
        let value = parameter.value().copy().unwrap();
        assert_gradient(name, &value, gradients.get(parameter).unwrap(), |moved| {
            parameter.var().set(moved).unwrap();
            let loss = loss(&decoder.log_probs(&batch(), Adapter::On).unwrap());
            parameter.var().set(&value).unwrap();
            loss
        });
    }
}

#[test]
fn every_layer_backward_is_a_derivative() {
    let decoder = adapted(true, DType::F64);
    let data = |name: &str, shape: (usize, usize)| {
        let data = normal(&Draw::new(9, name), shape.0 * shape.1, 1.0);
        Tensor::from_vec(data, shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
    };
    let mut scratch = Gradients::none(decoder.parameters());
    let block = &decoder.blocks[0];
    let (x, seed) = (data("x", (5, 8)), data("seed", (5, 16)));

    let (_, down) = block.q.forward(&x, true).unwrap();
    let dx = block.q.backward(&x, down.as_ref(), &seed, &mut scratch).unwrap();
    assert_gradient("linear", &x, &dx, |x| dot(&block.q.forward(x, true).unwrap().0, &seed));

    let seed = data("seed", (5, 8));
    let (_, inverse) = block.mlp_norm.forward(&x).unwrap();
    let dx = block.mlp_norm.backward(&x, &inverse, &seed, &mut scratch).unwrap();
    assert_gradient("norm", &x, &dx, |x| dot(&block.mlp_norm.forward(x).unwrap().0, &seed));

    let packed = PackedBatch::context(&[1, 2, 3, 4, 5]);
    let (cos, sin) = &decoder.rotation;
    let context = BlockContext {
        trees: &packed.trees,
        rotation: (cos.narrow(0, 0, 5).unwrap(), sin.narrow(0, 0, 5).unwrap()),
        pairs: RotaryPairs::Interleaved,
        heads: decoder.architecture().heads(),
        adapter: true,
    };
    let (_, saved) = block.forward(&x, &context).unwrap();
    let dx = block.backward(saved, &seed, &context, &mut scratch).unwrap();
    assert_gradient("block", &x, &dx, |x| dot(&block.forward(x, &context).unwrap().0, &seed));

    let scored = &batch().scored[..5];
    let weights: Vec<f64> = (0..5).map(|i| 0.3 * f64::from(i) - 0.5).collect();
    for head in [decoder.head.clone(), decoder.with_all_trained().unwrap().head] {
        let mut scratch = Gradients::none(decoder.with_all_trained().unwrap().parameters());
        let (_, saved) = head.forward(&x, scored, 5).unwrap();
        let dx = head.backward(saved, scored, &weights, &mut scratch).unwrap();
        assert_gradient("head", &x, &dx, |x| {
            let log_probs = head.forward(x, scored, 0).unwrap().0;
            log_probs.iter().zip(&weights).map(|(log_prob, weight)| log_prob * weight).sum()
        });
    }
}

#[test]
fn a_log_prob_does_not_depend_on_its_batch_mates() {
    let decoder = adapted(true, DType::F32);
    let together = decoder.log_probs(&batch(), Adapter::On).unwrap();
    for ((prompt, completion, gradient), together) in COMPLETIONS.into_iter().zip(together) {
        let mut packer = Packer::default();
        let id = packer.prompt(PROMPTS[prompt]);
        packer.completion(id, completion, gradient);
        let alone = decoder.log_probs(&packer.pack().unwrap(), Adapter::On).unwrap()[0];
        assert!((alone - together).abs() < 1e-5, "{alone} {together}");
    }
}

#[test]
fn switching_the_adapter_off_gives_the_base_exactly() {
    let base = decoder(true, DType::F32);
    let off = adapted(true, DType::F32).log_probs(&batch(), Adapter::Off).unwrap();
    assert_eq!(off, base.log_probs(&batch(), Adapter::Off).unwrap());
    let fresh = base.with_lora(Lora { r: 2, alpha: 4.0 }, 0).unwrap();
    assert_eq!(fresh.log_probs(&batch(), Adapter::On).unwrap(), off);
    assert_eq!(fresh.forward(&batch(), Activations::Keep).unwrap().0, off);
}

#[test]
fn merging_keeps_the_policy() {
    let decoder = adapted(false, DType::F64);
    let (on, off) = (
        decoder.log_probs(&batch(), Adapter::On).unwrap(),
        decoder.merged().unwrap().log_probs(&batch(), Adapter::Off).unwrap(),
    );
    for (on, off) in on.iter().zip(off) {
        assert!((on - off).abs() < 1e-10);
    }
}

#[test]
fn tokens_and_positions_out_of_range_are_errors() {
    let decoder = decoder(true, DType::F32);
    let error = |tokens: &[u32]| decoder.logits(tokens, Adapter::On).unwrap_err().to_string();
    assert!(error(&[23]).contains("vocabulary of 23"));
    assert!(error(&[1; 33]).contains("32 positions"));
    assert!(error(&[]).contains("empty batch"));
}
