//! Layers and the whole decoder against finite differences and candle's autograd, packed and
//! unpacked.

mod mixed;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::log_softmax;

use crate::{
    Activations, Adapter, Architecture, Decoder, EmbeddingScale, GateKind, GeluKind, Generated,
    GenerationConfig, Gradients, LayerAttention, LoraConfig, ModelError, PackedBatch, Packer, Prompt,
    Residual, RotaryPairs, Sampling,
    ops::{
        self, AttentionBatch,
        tests::{assert_gradient, dot},
    },
    parameters::WeightTensor,
    weights::{LinearWeight, TensorSource, normal},
};
use prospect_core::draw::Draw;

use super::{BlockContext, LayerContext, Linear, Norm};
use crate::architecture::{AttentionHeads, Mlp, Projections};

const SIZES: &str = r#""vocab_size": 23, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "max_position_embeddings": 32"#;
const LLAMA: &str = r#""num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "rope_theta": 100"#;
const TIED: &str = r#""tie_word_embeddings": true"#;
const NEOX: &str =
    r#""model_type": "gpt_neox", "num_attention_heads": 2, "rotary_pct": 0.5, "rotary_emb_base": 100"#;
const GEMMA: &str = r#""model_type": "gemma3_text", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
    "rope_theta": 100, "rope_local_base_freq": 10, "query_pre_attn_scalar": 9, "sliding_window": 3,
    "sliding_window_pattern": 2"#;

fn architecture(keys: &str) -> Architecture {
    serde_json::from_str(&format!("{{{SIZES}, {keys}}}")).unwrap()
}

/// Architectures that cover every variant of each part.
fn architectures() -> Vec<(&'static str, Architecture)> {
    let of = |keys: &[&str]| architecture(&keys.join(", "));
    vec![
        ("llama", of(&[LLAMA])),
        ("llama, tied", of(&[LLAMA, TIED])),
        ("llama with biases", of(&[LLAMA, r#""attention_bias": true, "mlp_bias": true"#])),
        ("qwen2", of(&[LLAMA, TIED, r#""model_type": "qwen2""#])),
        ("qwen3", of(&[LLAMA, r#""model_type": "qwen3""#])),
        ("mistral", of(&[LLAMA, r#""model_type": "mistral", "sliding_window": 2"#])),
        ("gemma", of(&[GEMMA])),
        (
            "gemma, scaled rope",
            of(&[
                GEMMA,
                r#""rope_scaling": {"rope_type": "linear", "factor": 4}, "tie_word_embeddings": false"#,
            ]),
        ),
        ("neox", of(&[NEOX])),
        ("neox, sequential", of(&[NEOX, r#""use_parallel_residual": false, "hidden_act": "gelu_new""#])),
        ("neox, yarn", of(&[NEOX, r#""rope_scaling": {"rope_type": "yarn", "factor": 4}"#])),
    ]
}

/// Random weights, including those of norms and biases.
struct Rough(DType);

impl TensorSource for Rough {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let values = normal(&Draw::new(5, name), shape.iter().product(), 0.3);
        let values = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.0)?;
        let around_one = shape.len() == 1 && name.ends_with("weight");
        Ok(if around_one { (values + 1.0)? } else { values })
    }
}

fn decoder(architecture: &Architecture, dtype: DType) -> Decoder {
    Decoder::frozen(architecture.clone(), &mut Rough(dtype)).unwrap()
}

fn llama(dtype: DType) -> Decoder {
    decoder(&architecture(&[LLAMA, TIED].join(", ")), dtype)
}

/// Adapter with non-zero B, so that it has an effect.
fn with_adapter(decoder: &Decoder) -> Decoder {
    let decoder = decoder.with_lora(LoraConfig { r: 2, alpha: 3.0 }, 1).unwrap();
    for (name, parameter) in decoder.parameters().iter().filter(|(name, _)| name.contains("lora_B")) {
        let value = normal(&Draw::new(2, name), parameter.value().elem_count(), 0.3);
        let value = Tensor::from_vec(value, parameter.value().shape(), &Device::Cpu).unwrap();
        parameter.var().set(&value.to_dtype(parameter.value().dtype()).unwrap()).unwrap();
    }
    decoder
}

const PROMPTS: [&[u32]; 2] = [&[1, 2, 3, 4], &[5, 6]];
const COMPLETIONS: [(usize, &[u32], bool); 4] =
    [(0, &[7, 8, 9], true), (0, &[10], true), (1, &[11, 12, 13, 14], true), (1, &[7, 8, 9], false)];

fn batch() -> PackedBatch {
    let mut packer = Packer::default();
    let prompts = PROMPTS.map(|prompt| packer.add_prompt(prompt));
    for (prompt, tokens, gradient) in COMPLETIONS {
        packer.add_completion(prompts[prompt], tokens, gradient);
    }
    packer.pack().unwrap()
}

/// d loss / d log π of each completion; zero for the last.
const SEED: [f64; 4] = [0.7, -1.3, 0.4, 0.0];

fn loss(log_probs: &[f64]) -> f64 {
    log_probs.iter().zip(SEED).map(|(log_prob, seed)| log_prob * seed).sum()
}

fn gradients(decoder: &Decoder, activations: Activations) -> Gradients<'static> {
    let mut gradients = Gradients::none(decoder.parameters());
    let (_, saved) = decoder.forward(&batch(), activations).unwrap();
    decoder.backward(saved, &SEED, &mut gradients).unwrap();
    gradients
}

/// Returns a weight as a variable of candle's autograd.
fn tracked(weight: &WeightTensor) -> &Tensor {
    match weight {
        WeightTensor::Frozen(value) => value,
        WeightTensor::Trained(parameter) | WeightTensor::Gathered(_, parameter) => parameter.var(),
    }
}

fn oracle_linear(x: &Tensor, linear: &Linear) -> Tensor {
    let LinearWeight::Plain(weight) = &linear.weight else { panic!("the oracle is of plain weights") };
    let y = x.matmul(&tracked(weight).t().unwrap()).unwrap();
    let y = match &linear.bias {
        Some(bias) => y.broadcast_add(tracked(bias)).unwrap(),
        None => y,
    };
    let Some(lora) = &linear.lora else { return y };
    let down = x.matmul(&lora.a.var().t().unwrap()).unwrap();
    (y + (down.matmul(&lora.b.var().t().unwrap()).unwrap() * lora.scale).unwrap()).unwrap()
}

fn oracle_norm(x: &Tensor, norm: &Norm, epsilon: f64) -> Tensor {
    let mean = x.mean_keepdim(D::Minus1).unwrap();
    let x = if norm.bias.is_some() { x.broadcast_sub(&mean).unwrap() } else { x.clone() };
    let square = x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
    let rms = (square + epsilon).unwrap().sqrt().unwrap();
    let weight = tracked(&norm.weight);
    let weight = if norm.offset { (weight + 1.0).unwrap() } else { weight.clone() };
    let y = x.broadcast_div(&rms).unwrap().broadcast_mul(&weight).unwrap();
    match &norm.bias {
        Some(bias) => y.broadcast_add(tracked(bias)).unwrap(),
        None => y,
    }
}

fn oracle_mlp(x: &Tensor, mlp: &Mlp<Linear>) -> Tensor {
    match mlp {
        Mlp::Gated([gate, up, down], kind) => {
            let gate = oracle_linear(x, gate);
            let active = match kind {
                GateKind::Silu => gate.silu().unwrap(),
                GateKind::Gelu(gelu) => oracle_gelu(&gate, *gelu),
            };
            oracle_linear(&(active * oracle_linear(x, up)).unwrap(), down)
        }
        Mlp::Plain([up, down], gelu) => oracle_linear(&oracle_gelu(&oracle_linear(x, up), *gelu), down),
    }
}

/// The derivatives of candle's GELUs are accurate to six digits only.
fn oracle_gelu(x: &Tensor, gelu: GeluKind) -> Tensor {
    let share = match gelu {
        GeluKind::Exact => (x * std::f64::consts::FRAC_1_SQRT_2).unwrap().erf(),
        GeluKind::Tanh => {
            let cube = (x.sqr().unwrap() * x).unwrap();
            let inner = (x + (cube * 0.044_715).unwrap()).unwrap();
            (inner * (2.0 / std::f64::consts::PI).sqrt()).unwrap().tanh()
        }
    };
    (((share.unwrap() + 1.0).unwrap() / 2.0).unwrap() * x).unwrap()
}

/// Returns the causal mask `[count, count]` that hides keys outside the window too.
fn oracle_mask(count: usize, window: usize, dtype: DType) -> Tensor {
    let hidden = |query: usize, key: usize| key > query || key + window <= query;
    let value = |i: usize| if hidden(i / count, i % count) { f64::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f64> = (0..count * count).map(value).collect();
    Tensor::from_vec(mask, (count, count), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Computes the loss with candle's differentiable operations, one unpacked sequence at a time.
/// Shares no code with the layers.
fn oracle_loss(decoder: &Decoder) -> Tensor {
    let a = decoder.architecture();
    let norm = |x: &Tensor, norm: &Norm| oracle_norm(x, norm, a.epsilon);
    let linear = oracle_linear;
    let mut total = Tensor::zeros((), decoder.dtype(), &Device::Cpu).unwrap();
    for ((prompt, completion, _), seed) in COMPLETIONS.into_iter().zip(SEED) {
        let tokens = [PROMPTS[prompt], completion].concat();
        let count = tokens.len();
        let index = Tensor::new(tokens.as_slice(), &Device::Cpu).unwrap();
        let mut x = tracked(&decoder.embedding).index_select(&index, 0).unwrap();
        if a.embedding_scale == EmbeddingScale::RootHidden {
            x = (x * (a.hidden as f64).sqrt()).unwrap();
        }
        let positions: Vec<u32> = (0..count as u32).collect();
        for (layer, block) in decoder.blocks.iter().enumerate() {
            let attention = &block.attention;
            let window = a.window.as_ref().filter(|window| window.layers[layer] == LayerAttention::Sliding);
            let mask = oracle_mask(count, window.map_or(count, |window| window.positions), decoder.dtype());
            let rope = window.and(a.sliding_rope.as_ref()).unwrap_or(&a.rope);
            let table = rope.table(a.max_positions);
            let (cos, sin) = table.cos_sin(&positions, decoder.dtype(), &Device::Cpu).unwrap();
            let normed = norm(&x, &block.attention_norm);
            let by_head = |x: Tensor| {
                let heads = x.dim(1).unwrap() / a.head_dim;
                x.reshape((count, heads, a.head_dim)).unwrap().transpose(0, 1).unwrap().contiguous().unwrap()
            };
            let rotate = |x: Tensor| {
                let rotated =
                    x.narrow(2, 0, a.rope.dims).unwrap().unsqueeze(0).unwrap().contiguous().unwrap();
                let rotated = candle_nn::rotary_emb::rope_slow(&rotated, &cos, &sin).unwrap();
                let rest = x.narrow(2, a.rope.dims, a.head_dim - a.rope.dims).unwrap();
                Tensor::cat(&[rotated.squeeze(0).unwrap(), rest], 2).unwrap()
            };
            let [q, k, v] = match &attention.projections {
                Projections::Separate(each) => [0, 1, 2].map(|index| by_head(linear(&normed, &each[index]))),
                Projections::Fused(all) => {
                    let whole = by_head(linear(&normed, all));
                    [0, 1, 2].map(|part| {
                        let heads: Vec<_> =
                            (0..a.query_heads).map(|head| whole.get(3 * head + part).unwrap()).collect();
                        Tensor::stack(&heads, 0).unwrap()
                    })
                }
            };
            let (q, k) = match &attention.norms {
                Some(norms) => (norm(&q, &norms.query), norm(&k, &norms.key)),
                None => (q, k),
            };
            let (q, k) = (rotate(q), rotate(k));
            let outputs: Vec<_> = (0..a.query_heads)
                .map(|head| {
                    let of = |x: &Tensor, head: usize| x.get(head).unwrap();
                    let group = head / (a.query_heads / a.key_heads);
                    let scores = of(&q, head).matmul(&of(&k, group).t().unwrap()).unwrap();
                    let scores = ((scores / a.query_scalar.sqrt()).unwrap() + &mask).unwrap();
                    candle_nn::ops::softmax(&scores, D::Minus1).unwrap().matmul(&of(&v, group)).unwrap()
                })
                .collect();
            let attended = linear(&Tensor::cat(&outputs, 1).unwrap(), &attention.output);
            let attended =
                block.post_norms.as_ref().map_or(attended.clone(), |after| norm(&attended, &after.attention));
            let sum = (&x + attended).unwrap();
            let normed = norm(if block.residual == Residual::Parallel { &x } else { &sum }, &block.mlp_norm);
            let mixed = oracle_mlp(&normed, &block.mlp);
            let mixed = block.post_norms.as_ref().map_or(mixed.clone(), |after| norm(&mixed, &after.mlp));
            x = (sum + mixed).unwrap();
        }
        let logits =
            norm(&x, &decoder.head.norm).matmul(&tracked(&decoder.head.weight).t().unwrap()).unwrap();
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
    for (name, architecture) in architectures() {
        let base = decoder(&architecture, DType::F64);
        for (kind, decoder) in [("lora", with_adapter(&base)), ("full", base.with_all_trained().unwrap())] {
            let name = format!("{name}, {kind}");
            let oracle = oracle_loss(&decoder);
            let ours = loss(&decoder.log_probs(&batch(), Adapter::On).unwrap());
            assert!((ours - oracle.to_scalar::<f64>().unwrap()).abs() < 1e-10, "{name}");
            let expected = oracle.backward().unwrap();
            for activations in [Activations::Keep, Activations::Recompute] {
                let gradients = gradients(&decoder, activations);
                for (parameter_name, parameter) in decoder.parameters().iter() {
                    let gradient =
                        gradients.get(parameter).expect("every trainable weight receives a gradient");
                    let expected = expected.get(parameter.var()).unwrap();
                    let scale = dot(expected, expected).sqrt();
                    let error = (gradient - expected).unwrap();
                    assert!(scale > 1e-6, "{name}: {parameter_name} has no gradient to compare");
                    assert!(dot(&error, &error).sqrt() < 1e-9 * scale, "{name}: {parameter_name}");
                }
            }
        }
    }
}

#[test]
fn passes_held_on_to_every_tensor_for_an_autograd_that_is_not_used() {
    for (name, architecture) in architectures() {
        let base = decoder(&architecture, DType::F32);
        for decoder in [with_adapter(&base), base.with_all_trained().unwrap()] {
            let gradients = gradients(&decoder, Activations::Keep);
            for (parameter_name, parameter) in decoder.parameters().iter() {
                let gradient = gradients.get(parameter).unwrap();
                assert!(!gradient.track_op() && !parameter.value().track_op(), "{name}: {parameter_name}");
            }
        }
    }
}

#[test]
fn a_whole_model_gradient_is_a_derivative() {
    for (name, architecture) in architectures() {
        let base = decoder(&architecture, DType::F64);
        for decoder in [with_adapter(&base), base.with_all_trained().unwrap()] {
            let gradients = gradients(&decoder, Activations::Keep);
            // Weights of the first block, whose gradients pass through all other layers.
            for (parameter_name, parameter) in
                decoder.parameters().iter().filter(|(name, _)| name.contains(".0."))
            {
                let value = parameter.value().copy().unwrap();
                let what = format!("{name}, {parameter_name}");
                assert_gradient(&what, &value, gradients.get(parameter).unwrap(), |moved| {
                    parameter.var().set(moved).unwrap();
                    let loss = loss(&decoder.log_probs(&batch(), Adapter::On).unwrap());
                    parameter.var().set(&value).unwrap();
                    loss
                });
            }
        }
    }
}

#[test]
fn gradients_of_tokens_add_up_to_those_of_sequences() {
    let decoder = with_adapter(&llama(DType::F64));
    let batch = batch();
    let of_tokens: Vec<f64> = batch.scored_sequences().map(|sequence| SEED[sequence]).collect();
    let mut by_token = Gradients::none(decoder.parameters());
    let (sums, saved) = decoder.forward(&batch, Activations::Keep).unwrap();
    assert_eq!(saved.token_log_probs(), decoder.token_log_probs(&batch, Adapter::On).unwrap());
    assert_eq!(batch.sum_by_sequence(saved.token_log_probs()), sums);
    decoder.backward_tokens(saved, &of_tokens, &mut by_token).unwrap();
    let by_sequence = gradients(&decoder, Activations::Keep);
    for (name, parameter) in decoder.parameters().iter() {
        let values = |gradients: &Gradients<'_>| {
            gradients.get(parameter).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        assert_eq!(values(&by_token), values(&by_sequence), "{name}");
    }
    // If one of them takes no gradient, the result is the derivative of the rest.
    let mut masked = of_tokens.clone();
    masked[1] = 0.0;
    let mut gradients = Gradients::none(decoder.parameters());
    let (_, saved) = decoder.forward(&batch, Activations::Recompute).unwrap();
    decoder.backward_tokens(saved, &masked, &mut gradients).unwrap();
    for (name, parameter) in decoder.parameters().iter().take(3) {
        let value = parameter.value().copy().unwrap();
        assert_gradient(name, &value, gradients.get(parameter).unwrap(), |moved| {
            parameter.var().set(moved).unwrap();
            let log_probs = decoder.token_log_probs(&batch, Adapter::On).unwrap();
            parameter.var().set(&value).unwrap();
            log_probs.iter().zip(&masked).map(|(log_prob, seed)| log_prob * seed).sum()
        });
    }
}

#[test]
fn every_layer_backward_is_a_derivative() {
    let data = |name: &str, shape: (usize, usize)| {
        let data = normal(&Draw::new(9, name), shape.0 * shape.1, 1.0);
        Tensor::from_vec(data, shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
    };
    let (x, seed) = (data("x", (5, 8)), data("seed", (5, 8)));
    for (name, architecture) in architectures() {
        let decoder = with_adapter(&decoder(&architecture, DType::F64));
        let mut scratch = Gradients::none(decoder.parameters());
        let block = &decoder.blocks[0];

        let linear = &block.attention.projections.as_slice()[0];
        let seed_of_linear = data("seed", (5, linear.weight.dims().unwrap().0));
        let (_, down) = linear.forward(&x, None, true).unwrap();
        let dx = linear.backward(&x, down.as_ref(), &seed_of_linear, None, &mut scratch).unwrap();
        assert_gradient(&format!("{name}, linear"), &x, &dx, |x| {
            dot(&linear.forward(x, None, true).unwrap().0, &seed_of_linear)
        });

        let (_, saved) = block.mlp_norm.forward(&x, x.dtype()).unwrap();
        let dx = block.mlp_norm.backward(&x, &saved, &seed, None, &mut scratch).unwrap();
        assert_gradient(&format!("{name}, norm"), &x, &dx, |x| {
            dot(&block.mlp_norm.forward(x, x.dtype()).unwrap().0, &seed)
        });

        let (_, saved) = block.mlp.forward(&x, None, true).unwrap();
        let dx = block.mlp.backward(&x, saved, &seed, &mut scratch).unwrap();
        assert_gradient(&format!("{name}, mlp"), &x, &dx, |x| {
            dot(&block.mlp.forward(x, None, true).unwrap().0, &seed)
        });

        let packed = PackedBatch::context(&[1, 2, 3, 4, 5]);
        for pairs in [RotaryPairs::Halves, RotaryPairs::Interleaved] {
            let rotation = decoder.rotary.cos_sin(&packed.positions, DType::F64, &Device::Cpu).unwrap();
            let heads = decoder.architecture().heads();
            let window = AttentionHeads { window: Some(2), ..heads };
            let layer = |heads| LayerContext {
                rotation: rotation.clone(),
                attention: AttentionBatch::new(&packed.trees, heads),
            };
            let (full, sliding) = (layer(heads), Some(layer(window)));
            let heads = if block.attention.kind == LayerAttention::Sliding { window } else { heads };
            let context = BlockContext { pairs, adapter: true, operands: x.dtype(), full, sliding };
            let attention = AttentionBatch::new(&packed.trees, heads);
            let attend = |[q, k, v]: [&Tensor; 3]| ops::attention(q, k, v, &attention);
            let (_, saved) = block.attention.forward(&x, None, &context, attend).unwrap();
            let dx = block.attention.backward(&x, saved, &seed, &context, &mut scratch).unwrap();
            assert_gradient(&format!("{name}, attention"), &x, &dx, |x| {
                dot(&block.attention.forward(x, None, &context, attend).unwrap().0, &seed)
            });

            let (_, saved) = block.forward(&x, &context).unwrap();
            let dx = block.backward(saved, &seed, &context, &mut scratch).unwrap();
            assert_gradient(&format!("{name}, block"), &x, &dx, |x| {
                dot(&block.forward(x, &context).unwrap().0, &seed)
            });
        }

        let targets: Vec<u32> = batch().scored[..5].iter().map(|scored| scored.target).collect();
        let targets = Tensor::new(targets, &Device::Cpu).unwrap();
        let weights: Vec<f64> = (0..5).map(|i| 0.3 * f64::from(i) - 0.5).collect();
        for head in [decoder.head.clone(), decoder.with_all_trained().unwrap().head] {
            let mut scratch = Gradients::none(decoder.with_all_trained().unwrap().parameters());
            let (_, saved) = head.forward(&x, &targets, 5).unwrap();
            let dx = head.backward(saved, &weights, &mut scratch).unwrap();
            assert_gradient(&format!("{name}, head"), &x, &dx, |x| {
                let log_probs = head.forward(x, &targets, 0).unwrap().0;
                log_probs.iter().zip(&weights).map(|(log_prob, weight)| log_prob * weight).sum()
            });
        }
    }
}

#[test]
fn a_log_prob_does_not_depend_on_its_batch_mates() {
    for (name, architecture) in architectures() {
        let decoder = with_adapter(&decoder(&architecture, DType::F32));
        let together = decoder.log_probs(&batch(), Adapter::On).unwrap();
        for ((prompt, completion, gradient), together) in COMPLETIONS.into_iter().zip(together) {
            let mut packer = Packer::default();
            let id = packer.add_prompt(PROMPTS[prompt]);
            packer.add_completion(id, completion, gradient);
            let alone = decoder.log_probs(&packer.pack().unwrap(), Adapter::On).unwrap()[0];
            assert!((alone - together).abs() < 1e-5 * (1.0 + together.abs()), "{name}: {alone} {together}");
        }
    }
}

#[test]
fn switching_the_adapter_off_gives_the_base_exactly() {
    let base = llama(DType::F32);
    let off = with_adapter(&base).log_probs(&batch(), Adapter::Off).unwrap();
    assert_eq!(off, base.log_probs(&batch(), Adapter::Off).unwrap());
    let fresh = base.with_lora(LoraConfig { r: 2, alpha: 4.0 }, 0).unwrap();
    assert_eq!(fresh.log_probs(&batch(), Adapter::On).unwrap(), off);
    assert_eq!(fresh.forward(&batch(), Activations::Keep).unwrap().0, off);
}

#[test]
fn merging_keeps_the_policy() {
    for (name, architecture) in architectures() {
        let decoder = with_adapter(&decoder(&architecture, DType::F64));
        let (on, off) = (
            decoder.log_probs(&batch(), Adapter::On).unwrap(),
            decoder.merged().unwrap().log_probs(&batch(), Adapter::Off).unwrap(),
        );
        for (on, off) in on.iter().zip(off) {
            assert!((on - off).abs() < 1e-10, "{name}");
        }
    }
}

#[test]
fn tokens_and_positions_out_of_range_are_errors() {
    let error =
        |decoder: &Decoder, tokens: &[u32]| decoder.logits(tokens, Adapter::On).unwrap_err().to_string();
    let decoder_ = llama(DType::F32);
    assert!(error(&decoder_, &[23]).contains("vocabulary of 23"));
    assert!(error(&decoder_, &[1; 33]).contains("32 positions"));
    assert!(error(&decoder_, &[]).contains("the batch is empty"));
}

#[test]
fn rows_outside_the_window_do_not_matter() {
    let logits = |architecture: &Architecture, tokens: &[u32]| -> Vec<f32> {
        let logits = decoder(architecture, DType::F32).logits(tokens, Adapter::On).unwrap();
        logits.get(tokens.len() - 1).unwrap().to_vec1().unwrap()
    };
    let of = |window: &str| {
        let keys = [LLAMA, r#""model_type": "mistral""#, window].join(", ");
        let keys = SIZES.replace(r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 1"#) + ", " + &keys;
        serde_json::from_str::<Architecture>(&format!("{{{keys}}}")).unwrap()
    };
    let (windowed, full) = (of(r#""sliding_window": 8"#), of(r#""sliding_window": null"#));
    let ([same, other], tokens) = ([vec![2, 1, 3], vec![2, 5, 3]], [4, 9, 16, 7, 11, 6, 8, 10]);
    let with = |first: &[u32]| [first, &tokens].concat();
    // One block: the last row attends to the last eight tokens only.
    assert_eq!(logits(&windowed, &with(&same)), logits(&windowed, &with(&other)));
    assert_ne!(logits(&full, &with(&same)), logits(&full, &with(&other)));
    // Up to its length, a window hides nothing.
    assert_eq!(logits(&windowed, &tokens), logits(&full, &tokens));
    assert_ne!(logits(&windowed, &with(&same)), logits(&full, &with(&same)));
}

#[test]
fn the_factor_of_embeddings_has_the_type_of_the_weights() {
    let gemma = architecture(&[GEMMA].join(", "));
    // √8 = 2.8284… is 2.828125 in bfloat16.
    for (dtype, factor) in [(DType::F32, (8f32).sqrt()), (DType::BF16, 2.828_125)] {
        let decoder = decoder(&gemma, dtype);
        let tokens = Tensor::new(&[3u32, 5], &Device::Cpu).unwrap();
        let plain = decoder.embedding.value().index_select(&tokens, 0);
        let expected = (plain.unwrap().to_dtype(DType::F32).unwrap() * f64::from(factor)).unwrap();
        let expected = expected.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
        let ours = decoder.embed(&tokens).unwrap().to_dtype(DType::F32).unwrap();
        assert_eq!(ours.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap(), "{dtype:?}");
    }
}

/// Prompts of several lengths, more than one batch.
fn to_continue() -> Vec<Vec<u32>> {
    (0..20).map(|index| (0..=index % 5).map(|place| (3 * index + 7 * place) % 23).collect()).collect()
}

#[test]
fn greedy_completions_are_those_of_the_whole_forward_pass() {
    for (name, architecture) in architectures() {
        let decoder = with_adapter(&decoder(&architecture, DType::F32));
        let prompts = to_continue();
        let ask: Vec<_> = prompts.iter().map(|tokens| Prompt { id: "", tokens }).collect();
        let how = GenerationConfig {
            sampling: Sampling::Greedy,
            max_new_tokens: 9,
            eos_token_ids: vec![22],
            seed: 0,
            batch_size: 2,
        };
        for adapter in [Adapter::On, Adapter::Off] {
            let generated = decoder.generate(&ask, &how, adapter).unwrap();
            for (prompt, generated) in prompts.iter().zip(&generated) {
                let mut grown = prompt.clone();
                let mut ended = false;
                while grown.len() < prompt.len() + 9 && !ended {
                    let logits = decoder.logits(&grown, adapter).unwrap();
                    let last =
                        logits.get(grown.len() - 1).unwrap().argmax(0).unwrap().to_scalar::<u32>().unwrap();
                    ended = last == 22;
                    grown.extend(Some(last).filter(|_| !ended));
                }
                assert_eq!(generated.tokens, grown[prompt.len()..], "{name}");
                assert_eq!(generated.end.is_some(), ended, "{name}");
                assert!((0.0..=(23_f64).ln()).contains(&generated.entropy), "{name}");
            }
        }
    }
}

#[test]
fn draws_belong_to_prompts_and_places_not_to_their_order() {
    let decoder = llama(DType::F32);
    let prompts = to_continue();
    let ids: Vec<String> = (0..prompts.len()).map(|index| format!("prompt {index}")).collect();
    let sampling = Sampling::Nucleus { top_p: 0.95, temperature: 2.0 };
    let generate = |order: &[usize], seed| {
        let how =
            GenerationConfig { sampling, max_new_tokens: 12, eos_token_ids: vec![99], seed, batch_size: 2 };
        let ask = order.iter().map(|index| Prompt { id: &ids[*index], tokens: &prompts[*index] });
        decoder.generate(&ask.collect::<Vec<_>>(), &how, Adapter::On).unwrap()
    };
    let order: Vec<usize> = (0..prompts.len()).collect();
    let forward = generate(&order, 1);
    let backward = generate(&order.iter().copied().rev().collect::<Vec<_>>(), 1);
    let tokens = |generated: &[Generated]| generated.iter().map(|g| g.tokens.clone()).collect::<Vec<_>>();
    assert_eq!(tokens(&forward), tokens(&backward).into_iter().rev().collect::<Vec<_>>());
    assert_ne!(tokens(&forward), tokens(&generate(&order, 2)));
    assert_ne!(forward[0].tokens, forward[5].tokens);
}

#[test]
fn completions_stop_where_positions_end() {
    let decoder = llama(DType::F32);
    let how = GenerationConfig {
        sampling: Sampling::Greedy,
        max_new_tokens: 50,
        eos_token_ids: vec![99],
        seed: 0,
        batch_size: 2,
    };
    let tokens = [1; 30];
    let generate = |tokens| decoder.generate(&[Prompt { id: "", tokens }], &how, Adapter::On);
    // Positions 30 and 31 are read; the token after the last position is sampled but not read.
    assert_eq!(generate(&tokens).unwrap()[0].tokens.len(), 3);
    assert_eq!(generate(&tokens).unwrap()[0].end, None);
    assert!(generate(&[]).unwrap_err().to_string().contains("no tokens"));
}

#[test]
fn log_probs_of_a_sequence_do_not_depend_on_its_batch() {
    // More rows than a block of queries, and completions of one token.
    let tokens = |count: usize, seed: usize| -> Vec<u32> {
        (0..count).map(|index| ((index * 13 + seed * 7) % 23) as u32).collect()
    };
    for dtype in [DType::F32, DType::BF16] {
        for (name, architecture) in architectures() {
            let decoder = with_adapter(&decoder(&architecture, dtype));
            let longest = architecture.max_positions;
            let (prompts, mut packer) =
                ([1, 9, longest / 2].map(|count| tokens(count, count)), Packer::default());
            let completions: Vec<Vec<u32>> = [1, 2, 7, longest / 2].map(|count| tokens(count, 3)).to_vec();
            for prompt in &prompts {
                let id = packer.add_prompt(prompt);
                for (index, completion) in completions.iter().enumerate() {
                    packer.add_completion(id, completion, index % 2 == 0);
                }
            }
            let batch = packer.pack().unwrap();
            for adapter in [Adapter::On, Adapter::Off] {
                let together = decoder.log_probs(&batch, adapter).unwrap();
                for (sequence, expected) in together.iter().enumerate() {
                    let alone = batch.select(&[sequence]).unwrap();
                    let log_prob = decoder.log_probs(&alone, adapter).unwrap()[0];
                    assert_eq!(
                        log_prob.to_bits(),
                        expected.to_bits(),
                        "{name}, {dtype:?}, sequence {sequence}"
                    );
                }
            }
        }
    }
}

#[test]
fn completions_do_not_depend_on_the_number_of_prompts_at_once() {
    let sampling = Sampling::Nucleus { top_p: 0.95, temperature: 2.0 };
    for dtype in [DType::F32, DType::BF16] {
        for (name, architecture) in architectures() {
            let decoder = with_adapter(&decoder(&architecture, dtype));
            let prompts = to_continue();
            let ids: Vec<String> = (0..prompts.len()).map(|index| format!("prompt {index}")).collect();
            let ask: Vec<_> = ids.iter().zip(&prompts).map(|(id, tokens)| Prompt { id, tokens }).collect();
            let generate = |batch_size| {
                let config = GenerationConfig {
                    sampling,
                    max_new_tokens: 12,
                    eos_token_ids: vec![2],
                    seed: 0,
                    batch_size,
                };
                decoder.generate(&ask, &config, Adapter::On).unwrap()
            };
            let alone = generate(1);
            for batch_size in [3, 20] {
                assert_eq!(generate(batch_size), alone, "{name}, {dtype:?}, {batch_size}");
            }
        }
    }
}
