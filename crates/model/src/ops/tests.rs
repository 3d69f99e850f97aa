//! Fused operations against composed ones, and both against finite differences.

use candle_core::{DType, Device, Tensor};

use super::{AttentionBatch, CachedSequence, LoraFactors, RotaryPairs, composed, cpu};
use crate::{
    GeluKind,
    architecture::AttentionHeads,
    pack::{Packer, PromptTree},
    weights::normal,
};
use prospect_core::draw::Draw;

pub(super) fn random(name: &str, shape: (usize, usize), dtype: DType) -> Tensor {
    let data = normal(&Draw::new(1, name), shape.0 * shape.1, 1.0);
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

pub(super) fn flat(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Returns a target of each row, from a vocabulary.
pub(super) fn targets(rows: u32, vocabulary: u32) -> Tensor {
    let targets: Vec<u32> = (0..rows).map(|row| row % vocabulary).collect();
    Tensor::new(targets, &Device::Cpu).unwrap()
}

fn assert_close(what: &str, a: &Tensor, b: &Tensor, tolerance: f64) {
    let (a, b) = (flat(a), flat(b));
    assert_eq!(a.len(), b.len(), "{what}");
    for (index, (a, b)) in a.iter().zip(&b).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}[{index}]: {a} {b}");
    }
}

/// Asserts that `gradient` agrees with central differences of `sum(f(x) * seed)` in every element
/// of `x`.
pub(crate) fn assert_gradient(what: &str, x: &Tensor, gradient: &Tensor, f: impl Fn(&Tensor) -> f64) {
    let (values, gradient) = (flat(x), flat(gradient));
    let step = 1e-5;
    for index in 0..values.len() {
        let moved = |by: f64| {
            let mut values = values.clone();
            values[index] += by;
            f(&Tensor::from_vec(values, x.shape(), &Device::Cpu).unwrap())
        };
        let numeric = (moved(step) - moved(-step)) / (2.0 * step);
        let error = (gradient[index] - numeric).abs();
        assert!(error < 1e-6 * (1.0 + numeric.abs()), "{what}[{index}]: {} {numeric}", gradient[index]);
    }
}

pub(crate) fn dot(a: &Tensor, b: &Tensor) -> f64 {
    flat(a).iter().zip(flat(b)).map(|(a, b)| a * b).sum()
}

/// Returns two trees of odd sizes, with one empty branch. Adds `more` tokens to the first prompt
/// and to two branches.
pub(super) fn forest(more: usize) -> (Vec<PromptTree>, usize) {
    let mut packer = Packer::default();
    let tokens = vec![1; 9 + more];
    let (first, second) = (packer.add_prompt(&tokens[..5 + more]), packer.add_prompt(&tokens[..2]));
    for (prompt, count) in [(first, 4), (first, 1), (first, 3 + more), (second, 6 + more)] {
        packer.add_completion(prompt, &tokens[..count], true);
    }
    let batch = packer.pack().unwrap();
    (batch.trees.clone(), batch.rows())
}

/// Returns full attention, windows shorter and longer than a block of queries, and another scale.
fn attention_shapes() -> [AttentionHeads; 4] {
    let full = AttentionHeads::new(4, 2, 6);
    let windowed = |positions| AttentionHeads { window: Some(positions), ..full };
    [full, windowed(3), windowed(70), AttentionHeads { scale: 0.3, ..windowed(1) }]
}

#[test]
fn fused_attention_to_cached_keys_equals_the_composed_one() {
    const CAPACITY: usize = 150;
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5), (DType::BF16, 2e-2)] {
        for (query, key, dim) in [(4, 2, 6), (9, 3, 64), (2, 2, 40)] {
            let heads = AttentionHeads { scale: 0.3, ..AttentionHeads::new(query, key, dim) };
            let cache = |name: &str| {
                random(name, (key * CAPACITY, dim), dtype).reshape((key, CAPACITY, dim)).unwrap()
            };
            let caches: Vec<_> = ["a", "b", "c"]
                .map(|name| (cache(&format!("k {name}")), cache(&format!("v {name}"))))
                .into_iter()
                .zip([0..1, 3..150, 17..90])
                .collect();
            let sequences: Vec<_> = caches
                .iter()
                .map(|((keys, values), seen)| CachedSequence { keys, values, seen: seen.clone() })
                .collect();
            let q = random("q", (3, query * dim), dtype);
            let fused = cpu::attention_to_cache(&q, &sequences, heads).unwrap();
            let composed = composed::attention_to_cache(&q, &sequences, heads).unwrap();
            assert_eq!(fused.dtype(), dtype);
            assert_close(&format!("{dtype:?}, {heads:?}"), &fused, &composed, tolerance);
        }
    }
}

fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-12 } else { 2e-5 }
}

#[test]
fn fused_operations_equal_composed_ones() {
    for dtype in [DType::F64, DType::F32] {
        let tolerance = tolerance(dtype);
        let (x, grad) = (random("x", (37, 24), dtype), random("grad", (37, 24), dtype));
        let up = random("up", (37, 24), dtype);
        let weight = random("w", (1, 24), dtype).squeeze(0).unwrap();
        let (fused, composed_) = (
            cpu::rms_norm(&x, &weight, 1e-5, dtype).unwrap(),
            composed::rms_norm(&x, &weight, 1e-5).unwrap(),
        );
        assert_close("norm", &fused.0, &composed_.0, tolerance);
        assert_close("inverse rms", &fused.1, &composed_.1, tolerance);
        for residual in [None, Some(&up)] {
            let fused_ = cpu::rms_norm_backward(&x, &weight, &fused.1, &grad, residual).unwrap();
            let composed_ = composed::rms_norm_backward(&x, &weight, &fused.1, &grad, residual).unwrap();
            assert_close("norm backward", &fused_, &composed_, tolerance);
        }

        let (cos, sin) = (random("cos", (37, 3), dtype), random("sin", (37, 3), dtype));
        for pairs in [RotaryPairs::Halves, RotaryPairs::Interleaved] {
            for (inverse, head_dim) in [(false, 6), (true, 6), (false, 8), (true, 8)] {
                let fused = cpu::rotary(&x, &cos, &sin, head_dim, pairs, inverse).unwrap();
                let composed_ = composed::rotary(&x, &cos, &sin, head_dim, pairs, inverse).unwrap();
                assert_close("rotary", &fused, &composed_, tolerance);
            }
        }

        for form in [GeluKind::Exact, GeluKind::Tanh] {
            // Includes large arguments of both signs.
            let x = (&x * 4.0).unwrap();
            let fused = cpu::gelu(&x, form).unwrap();
            assert_close("gelu", &fused, &composed::gelu(&x, form).unwrap(), tolerance);
            let fused = cpu::gelu_backward(&x, &grad, form).unwrap();
            let composed_ = composed::gelu_backward(&x, &grad, form).unwrap();
            assert_close("gelu backward", &fused, &composed_, tolerance);
            let fused = cpu::gated_gelu(&x, &up, form).unwrap();
            assert_close("gated gelu", &fused, &composed::gated_gelu(&x, &up, form).unwrap(), tolerance);
            let fused = cpu::gated_gelu_backward(&x, &up, &grad, form).unwrap();
            let composed_ = composed::gated_gelu_backward(&x, &up, &grad, form).unwrap();
            assert_close("gelu gate", &fused.0, &composed_.0, tolerance);
            assert_close("gelu up", &fused.1, &composed_.1, tolerance);
        }

        let fused = cpu::gated_silu(&x, &up).unwrap();
        assert_close("silu", &fused, &composed::gated_silu(&x, &up).unwrap(), tolerance);
        let fused = cpu::gated_silu_backward(&x, &up, &grad).unwrap();
        let composed_ = composed::gated_silu_backward(&x, &up, &grad).unwrap();
        assert_close("silu gate", &fused.0, &composed_.0, tolerance);
        assert_close("silu up", &fused.1, &composed_.1, tolerance);

        // Fewer rows than a block, and more.
        for (trees, rows) in [forest(0), forest(131)] {
            let (q, grad) = (random("q", (rows, 24), dtype), random("dy", (rows, 24), dtype));
            let (k, v) = (random("k", (rows, 12), dtype), random("v", (rows, 12), dtype));
            for heads in attention_shapes() {
                let batch = AttentionBatch::new(&trees, heads);
                let fused = cpu::attention(&q, &k, &v, &trees, heads).unwrap();
                let composed_ = composed::attention(&q, &k, &v, &batch).unwrap();
                assert_close("attention", &fused, &composed_, tolerance);
                let fused = cpu::attention_backward(&q, &k, &v, &grad, &trees, heads).unwrap();
                let composed_ = composed::attention_backward(&q, &k, &v, &grad, &batch).unwrap();
                assert_close("attention dq", &fused.0, &composed_.0, 10.0 * tolerance);
                assert_close("attention dk", &fused.1, &composed_.1, 10.0 * tolerance);
                assert_close("attention dv", &fused.2, &composed_.2, 10.0 * tolerance);
            }
        }

        let targets = targets(37, 24);
        let fused = cpu::log_prob_of_targets(&x, &targets, Some(dtype)).unwrap();
        let composed_ = composed::log_prob_of_targets(&x, &targets, true).unwrap();
        assert_close("log-probs", &fused.0, &composed_.0, 10.0 * tolerance);
        assert_close("head", &fused.1.unwrap(), &composed_.1.unwrap(), tolerance);
        let alone = cpu::log_prob_of_targets(&x, &targets, None).unwrap().0;
        assert_close("log-probs alone", &alone, &fused.0, 0.0);
    }
}

#[test]
fn fused_products_equal_composed_ones() {
    for dtype in [DType::F64, DType::F32] {
        let tolerance = 10.0 * tolerance(dtype);
        let (x, weight) = (random("x", (37, 24), dtype), random("w", (10, 24), dtype));
        let (a, b, residual) =
            (random("a", (3, 24), dtype), random("b", (10, 3), dtype), random("r", (37, 10), dtype));
        for residual in [None, Some(&residual)] {
            for adapter in [None, Some(LoraFactors { a: &a, b: &b, scale: 0.7 })] {
                let fused = cpu::linear(&x, &weight, residual, adapter, dtype).unwrap();
                let composed_ = composed::linear(&x, &weight, residual, adapter, dtype).unwrap();
                assert_close("linear", &fused.0, &composed_.0, tolerance);
                assert_eq!(fused.1.is_some(), adapter.is_some());
                if let (Some(fused), Some(composed_)) = (fused.1, composed_.1) {
                    assert_close("down", &fused, &composed_, tolerance);
                }
            }
        }
        let (left, right) = (random("l", (37, 10), dtype), random("r2", (37, 3), dtype));
        let terms = [(&left, &weight), (&right, &a)];
        for onto in [None, Some(&x)] {
            // `products` may overwrite `onto`.
            let fused = cpu::products(onto.map(|onto| onto.copy().unwrap()), &terms).unwrap();
            let composed_ = composed::products(onto.cloned(), &terms).unwrap();
            assert_close("products", &fused, &composed_, tolerance);
        }
    }
}

#[test]
fn backward_passes_are_derivatives() {
    let dtype = DType::F64;
    let (x, seed) = (random("x", (3, 8), dtype), random("seed", (3, 8), dtype));
    let weight = random("w", (1, 8), dtype).squeeze(0).unwrap();
    let (_, inverse) = super::rms_norm(&x, &weight, 1e-5, dtype).unwrap();
    let dx = super::rms_norm_backward(&x, &weight, &inverse, &seed, None).unwrap();
    assert_gradient("norm", &x, &dx, |x| dot(&super::rms_norm(x, &weight, 1e-5, dtype).unwrap().0, &seed));
    let dw = super::rms_norm_weight_grad(&x, &inverse, &seed).unwrap();
    assert_gradient("norm weight", &weight, &dw, |w| {
        dot(&super::rms_norm(&x, w, 1e-5, dtype).unwrap().0, &seed)
    });

    let (cos, sin) = (random("cos", (3, 2), dtype), random("sin", (3, 2), dtype));
    for pairs in [RotaryPairs::Halves, RotaryPairs::Interleaved] {
        for head_dim in [4, 8] {
            let dx = super::rotary(&seed, &cos, &sin, head_dim, pairs, true).unwrap();
            assert_gradient("rotary", &x, &dx, |x| {
                dot(&super::rotary(x, &cos, &sin, head_dim, pairs, false).unwrap(), &seed)
            });
        }
    }

    let centred = super::centre(&seed).unwrap();
    assert_gradient("centre", &x, &centred, |x| dot(&super::centre(x).unwrap(), &seed));
    for form in [GeluKind::Exact, GeluKind::Tanh] {
        let dx = super::gelu_backward(&x, &seed, form).unwrap();
        assert_gradient("gelu", &x, &dx, |x| dot(&super::gelu(x, form).unwrap(), &seed));
    }

    let up = random("up", (3, 8), dtype);
    let (d_gate, d_up) = super::gated_silu_backward(&x, &up, &seed).unwrap();
    assert_gradient("silu gate", &x, &d_gate, |x| dot(&super::gated_silu(x, &up).unwrap(), &seed));
    assert_gradient("silu up", &up, &d_up, |up| dot(&super::gated_silu(&x, up).unwrap(), &seed));
    for form in [GeluKind::Exact, GeluKind::Tanh] {
        let gated = |x: &Tensor, up: &Tensor| dot(&super::gated_gelu(x, up, form).unwrap(), &seed);
        let (d_gate, d_up) = super::gated_gelu_backward(&x, &up, &seed, form).unwrap();
        assert_gradient("gelu gate", &x, &d_gate, |x| gated(x, &up));
        assert_gradient("gelu up", &up, &d_up, |up| gated(&x, up));
    }

    let (trees, rows) = forest(0);
    let (q, seed) = (random("q", (rows, 24), dtype), random("dy", (rows, 24), dtype));
    let (k, v) = (random("k", (rows, 12), dtype), random("v", (rows, 12), dtype));
    for heads in attention_shapes() {
        let batch = AttentionBatch::new(&trees, heads);
        let (dq, dk, dv) = super::attention_backward(&q, &k, &v, &seed, &batch).unwrap();
        let y = |q: &Tensor, k: &Tensor, v: &Tensor| dot(&super::attention(q, k, v, &batch).unwrap(), &seed);
        assert_gradient("attention q", &q, &dq, |q| y(q, &k, &v));
        assert_gradient("attention k", &k, &dk, |k| y(&q, k, &v));
        assert_gradient("attention v", &v, &dv, |v| y(&q, &k, v));
    }

    let logits = random("logits", (3, 8), dtype);
    let targets = Tensor::new(&[5u32, 0, 7], &Device::Cpu).unwrap();
    let (_, gradient) = super::log_prob_of_targets(&logits, &targets, Some(dtype)).unwrap();
    assert_gradient("head", &logits, &gradient.unwrap(), |x| {
        let (log_probs, _) = super::log_prob_of_targets(x, &targets, None).unwrap();
        log_probs.sum_all().unwrap().to_scalar::<f64>().unwrap()
    });
}

/// Asserts that `ours` differs from `exact` by at most `steps` roundings to bf16 of the largest
/// value of `exact`.
fn assert_rounded(what: &str, ours: &Tensor, exact: &Tensor, steps: f64) {
    let (ours, exact) = (flat(ours), flat(exact));
    assert_eq!(ours.len(), exact.len(), "{what}");
    let largest = exact.iter().map(|x| x.abs()).fold(0.0, f64::max);
    let error = ours.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error <= steps * largest / 256.0, "{what}: off by {error}, largest {largest}");
}

#[test]
fn mixed_precision_is_exact_but_for_rounding() {
    let (bf16, f64) = (DType::BF16, DType::F64);
    // The same numbers in both types.
    let both = |name: &str, shape: (usize, usize)| {
        let rounded = random(name, shape, bf16);
        (rounded.clone(), rounded.to_dtype(f64).unwrap())
    };
    let f32_and_f64 = |name: &str, shape| (random(name, shape, DType::F32), random(name, shape, f64));
    let ((x, x64), (up, up64)) = (both("x", (37, 24)), both("up", (37, 24)));
    let (grad, grad64) = f32_and_f64("grad", (37, 24));

    let (weight, weight64) = both("w", (10, 24));
    let ((a, a64), (b, b64)) = (both("a", (3, 24)), both("b", (10, 3)));
    let (residual, residual64) = f32_and_f64("r", (37, 10));
    let (factors, factors64) =
        (LoraFactors { a: &a, b: &b, scale: 0.7 }, LoraFactors { a: &a64, b: &b64, scale: 0.7 });
    let (y, down) = cpu::linear(&x, &weight, Some(&residual), Some(factors), DType::F32).unwrap();
    let (y64, down64) = composed::linear(&x64, &weight64, Some(&residual64), Some(factors64), f64).unwrap();
    assert_eq!((y.dtype(), down.as_ref().map(Tensor::dtype)), (DType::F32, Some(bf16)));
    assert_rounded("linear", &y, &y64, 1.0);
    assert_rounded("down", &down.clone().unwrap(), &down64.clone().unwrap(), 1.0);
    let (d_y, d_y64) = both("dy", (37, 10));
    let ours = cpu::lora_gradients(&x, &down.unwrap(), &d_y, factors).unwrap();
    let exact = composed::lora_gradients(&x64, &down64.unwrap(), &d_y64, factors64).unwrap();
    assert_rounded("d down", &ours.down, &exact.down, 1.0);
    assert_rounded("d a", &ours.a, &exact.a, 2.0);
    assert_rounded("d b", &ours.b, &exact.b, 2.0);
    let onto = Some(grad.copy().unwrap());
    let ours = cpu::products(onto, &[(&d_y, &weight), (&ours.down, &a)]).unwrap();
    let onto = Some(grad64.clone());
    let exact = composed::products(onto, &[(&d_y64, &weight64), (&exact.down, &a64)]).unwrap();
    assert_rounded("products", &ours, &exact, 1.0);

    let norm = random("norm", (1, 24), DType::F32).squeeze(0).unwrap();
    let norm64 = norm.to_dtype(f64).unwrap();
    let (y, _) = cpu::rms_norm(&grad, &norm, 1e-5, bf16).unwrap();
    assert_rounded("norm", &y, &composed::rms_norm(&grad64, &norm64, 1e-5).unwrap().0, 1.0);
    assert_rounded(
        "silu",
        &cpu::gated_silu(&x, &up).unwrap(),
        &composed::gated_silu(&x64, &up64).unwrap(),
        1.0,
    );
    let ours = cpu::gated_silu_backward(&x, &up, &grad).unwrap();
    let exact = composed::gated_silu_backward(&x64, &up64, &grad64).unwrap();
    assert_rounded("silu gate", &ours.0, &exact.0, 1.0);
    assert_rounded("silu up", &ours.1, &exact.1, 1.0);
    let ours = cpu::gelu_backward(&x, &grad, GeluKind::Tanh).unwrap();
    assert_rounded("gelu", &ours, &composed::gelu_backward(&x64, &grad64, GeluKind::Tanh).unwrap(), 1.0);
    let ((cos, cos64), (sin, sin64)) = (f32_and_f64("cos", (37, 3)), f32_and_f64("sin", (37, 3)));
    for pairs in [RotaryPairs::Halves, RotaryPairs::Interleaved] {
        let ours = cpu::rotary(&x, &cos, &sin, 8, pairs, true).unwrap();
        assert_rounded(
            "rotary",
            &ours,
            &composed::rotary(&x64, &cos64, &sin64, 8, pairs, true).unwrap(),
            1.0,
        );
    }
    let targets = targets(37, 24);
    let (ours, d_logits) = cpu::log_prob_of_targets(&grad, &targets, Some(bf16)).unwrap();
    let (exact, d_logits64) = composed::log_prob_of_targets(&grad64, &targets, true).unwrap();
    assert_close("log-probs", &ours, &exact, 1e-5);
    assert_rounded("d logits", &d_logits.unwrap(), &d_logits64.unwrap(), 1.0);

    for (trees, rows) in [forest(0), forest(131)] {
        let ((q, q64), (grad, grad64)) = (both("q", (rows, 24)), f32_and_f64("dy", (rows, 24)));
        let ((k, k64), (v, v64)) = (both("k", (rows, 12)), both("v", (rows, 12)));
        for heads in attention_shapes() {
            let ours = cpu::attention(&q, &k, &v, &trees, heads).unwrap();
            let batch = AttentionBatch::new(&trees, heads);
            let exact = composed::attention(&q64, &k64, &v64, &batch).unwrap();
            assert_rounded("attention", &ours, &exact, 2.0);
            let ours = cpu::attention_backward(&q, &k, &v, &grad, &trees, heads).unwrap();
            let exact = composed::attention_backward(&q64, &k64, &v64, &grad64, &batch).unwrap();
            assert_rounded("attention dq", &ours.0, &exact.0, 3.0);
            assert_rounded("attention dk", &ours.1, &exact.1, 3.0);
            assert_rounded("attention dv", &ours.2, &exact.2, 3.0);
        }
    }
}

/// Asserts that a bf16 result is the exact one rounded once, up to errors of f32 arithmetic.
fn assert_rounded_once(what: &str, half: &Tensor, exact: &Tensor) {
    assert_eq!(half.dtype(), DType::BF16, "{what}");
    for (index, (half, exact)) in flat(half).iter().zip(flat(exact)).enumerate() {
        // Half a unit in the last of eight bits, and errors of f32.
        let tolerance = 2f64.powi(-8) * exact.abs() + 1e-5;
        assert!((half - exact).abs() <= tolerance, "{what}[{index}]: {half} {exact}");
    }
}

#[test]
fn half_precision_operations_round_once() {
    let half = |name| random(name, (37, 24), DType::BF16);
    let exact = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let (x, up, grad) = (half("x"), half("up"), half("grad"));
    let (x64, up64, grad64) = (exact(&x), exact(&up), exact(&grad));
    let silu = composed::gated_silu(&x, &up).unwrap();
    assert_rounded_once("silu", &silu, &composed::gated_silu(&x64, &up64).unwrap());
    let (d_gate, d_up) = composed::gated_silu_backward(&x, &up, &grad).unwrap();
    let expected = composed::gated_silu_backward(&x64, &up64, &grad64).unwrap();
    assert_rounded_once("silu gate", &d_gate, &expected.0);
    assert_rounded_once("silu up", &d_up, &expected.1);
    for form in [GeluKind::Exact, GeluKind::Tanh] {
        assert_rounded_once("gelu", &composed::gelu(&x, form).unwrap(), &composed::gelu(&x64, form).unwrap());
        let expected = composed::gelu_backward(&x64, &grad64, form).unwrap();
        assert_rounded_once("gelu backward", &composed::gelu_backward(&x, &grad, form).unwrap(), &expected);
        let (d_gate, d_up) = composed::gated_gelu_backward(&x, &up, &grad, form).unwrap();
        let expected = composed::gated_gelu_backward(&x64, &up64, &grad64, form).unwrap();
        assert_rounded_once("gelu gate", &d_gate, &expected.0);
        assert_rounded_once("gelu up", &d_up, &expected.1);
    }
    let (cos, sin) = (random("cos", (37, 3), DType::F32), random("sin", (37, 3), DType::F32));
    for head_dim in [6, 8] {
        let y = composed::rotary(&x, &cos, &sin, head_dim, RotaryPairs::Halves, false).unwrap();
        let (cos, sin) = (exact(&cos), exact(&sin));
        let expected = composed::rotary(&x64, &cos, &sin, head_dim, RotaryPairs::Halves, false).unwrap();
        assert_rounded_once("rotary", &y, &expected);
    }
    let weight = half("w").narrow(0, 0, 1).unwrap().squeeze(0).unwrap();
    let (_, inverse) = composed::rms_norm(&x, &weight, 1e-5).unwrap();
    let d_weight = composed::rms_norm_weight_grad(&x, &inverse, &grad).unwrap();
    let expected = composed::rms_norm_weight_grad(&x64, &exact(&inverse), &grad64).unwrap();
    assert_rounded_once("norm weight", &d_weight, &expected);
    assert_rounded_once("bias", &super::sum_rows(&grad).unwrap(), &grad64.sum(0).unwrap());
}

#[test]
fn products_of_half_precision_are_not_rounded_to_it() {
    let (x, weight) = (random("x", (5, 300), DType::BF16), random("w", (7, 300), DType::BF16));
    let logits = super::wide_linear(&x, &weight).unwrap();
    let exact = x.to_dtype(DType::F64).unwrap().matmul(&weight.to_dtype(DType::F64).unwrap().t().unwrap());
    assert_eq!(logits.dtype(), DType::F32);
    assert_close("logits", &logits, &exact.unwrap(), 1e-5);
}

#[test]
fn small_sums_are_those_of_rows() {
    // The shape of the gradients of repeated keys: sums of few elements over an inner dimension.
    for dtype in [DType::F32, DType::BF16] {
        let x = random("x", (8 * 4, 511 * 4), dtype).reshape((8, 4, 511, 4)).unwrap();
        let wide = x.to_dtype(DType::F64).unwrap().sum(1).unwrap();
        assert_close("sum", &x.sum(1).unwrap(), &wide, if dtype == DType::F32 { 1e-5 } else { 0.03 });
    }
}
