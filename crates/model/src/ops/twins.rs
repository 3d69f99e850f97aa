//! Operations against the twins of the CUDA kernels.

use candle_core::{
    D, DType, Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use prospect_kernels::{
    activation::{self, GeluForm as TwinGelu},
    attention::{self, AttentionOutput, AttentionTree as TwinTree, HeadCounts as TwinHeads},
    dequantise::{BlockFormat, dequantise},
    log_prob, norm,
    rotary::{self, PairLayout, RotaryShape},
};

use super::{
    AttentionBatch,
    tests::{flat, forest, random},
};
use crate::{GeluKind, RotaryPairs, architecture::AttentionHeads};

fn assert_twin(what: &str, ours: &Tensor, twin: &[f64]) {
    let ours = flat(ours);
    assert_eq!(ours.len(), twin.len(), "{what}");
    for (index, (ours, twin)) in ours.iter().zip(twin).enumerate() {
        assert!((ours - twin).abs() < 1e-11 * (1.0 + twin.abs()), "{what}[{index}]: {ours} {twin}");
    }
}

fn random_matrix(name: &str, shape: (usize, usize)) -> (Tensor, Vec<f64>) {
    let tensor = random(name, shape, DType::F64);
    let values = flat(&tensor);
    (tensor, values)
}

#[test]
fn norms() {
    let (x, x_values) = random_matrix("x", (5, 24));
    let (grad, grad_values) = random_matrix("grad", (5, 24));
    let (residual, residual_values) = random_matrix("residual", (5, 24));
    let (weight, w) = random_matrix("w", (1, 24));
    let (bias, b) = random_matrix("b", (1, 24));
    let weight = weight.squeeze(0).unwrap();

    let (y, inverse) = super::rms_norm(&x, &weight, 1e-5, DType::F64).unwrap();
    let twin = norm::forward(&x_values, &w, None, 1e-5);
    assert_twin("y", &y, &twin.y);
    assert_twin("inverse", &inverse, &twin.rstd);
    let dx = super::rms_norm_backward(&x, &weight, &inverse, &grad, Some(&residual)).unwrap();
    let twin_dx = norm::backward(&x_values, &w, None, &twin.rstd, &grad_values, Some(&residual_values));
    assert_twin("dx", &dx, &twin_dx);
    let dw = super::rms_norm_weight_grad(&x, &inverse, &grad).unwrap();
    assert_twin("dw", &dw, &norm::weight_grad(&x_values, 24, None, &twin.rstd, &grad_values).0);

    // Layer norm, composed as in `Norm`.
    let centred = super::centre(&x).unwrap();
    let (y, inverse) = super::rms_norm(&centred, &weight, 1e-5, DType::F64).unwrap();
    let twin = norm::forward(&x_values, &w, Some(&b), 1e-5);
    assert_twin("layer y", &y.broadcast_add(&bias).unwrap(), &twin.y);
    assert_twin("layer mean", &x.mean(D::Minus1).unwrap(), &twin.mean);
    let dx = super::rms_norm_backward(&centred, &weight, &inverse, &grad, None).unwrap();
    let twin_dx = norm::backward(&x_values, &w, Some(&twin.mean), &twin.rstd, &grad_values, None);
    assert_twin("layer dx", &super::centre(&dx).unwrap(), &twin_dx);
    let (dw, db) = norm::weight_grad(&x_values, 24, Some(&twin.mean), &twin.rstd, &grad_values);
    assert_twin("layer dw", &super::rms_norm_weight_grad(&centred, &inverse, &grad).unwrap(), &dw);
    assert_twin("layer db", &grad.sum(0).unwrap(), &db);
}

#[test]
fn rotations() {
    let (x, x_values) = random_matrix("x", (5, 24));
    let ((cos, c), (sin, s)) = (random_matrix("cos", (5, 3)), random_matrix("sin", (5, 3)));
    for (pairs, twin_pairs) in
        [(RotaryPairs::Halves, PairLayout::Halves), (RotaryPairs::Interleaved, PairLayout::Interleaved)]
    {
        for (head_dim, inverse) in [(6, false), (6, true), (8, false), (8, true)] {
            let y = super::rotary(&x, &cos, &sin, head_dim, pairs, inverse).unwrap();
            let shape = RotaryShape { width: 24, head_dim, half: 3, pairs: twin_pairs };
            let sign = if inverse { -1.0 } else { 1.0 };
            assert_twin("rotary", &y, &rotary::rotate(&x_values, &c, &s, shape, sign));
        }
    }
}

#[test]
fn activations() {
    let (x, x_values) = random_matrix("x", (5, 24));
    let (up, up_values) = random_matrix("up", (5, 24));
    let (grad, grad_values) = random_matrix("grad", (5, 24));
    assert_twin("silu", &super::gated_silu(&x, &up).unwrap(), &activation::gated_silu(&x_values, &up_values));
    let ours = super::gated_silu_backward(&x, &up, &grad).unwrap();
    let twin = activation::gated_silu_backward(&x_values, &up_values, &grad_values);
    assert_twin("silu gate", &ours.0, &twin.0);
    assert_twin("silu up", &ours.1, &twin.1);
    for (form, twin) in [(GeluKind::Exact, TwinGelu::Exact), (GeluKind::Tanh, TwinGelu::Tanh)] {
        assert_twin("gelu", &super::gelu(&x, form).unwrap(), &activation::gelu(&x_values, twin));
        let dx = super::gelu_backward(&x, &grad, form).unwrap();
        assert_twin("gelu backward", &dx, &activation::gelu_backward(&x_values, &grad_values, twin));
    }
}

#[test]
fn attention_over_trees() {
    let (trees, rows) = forest(70);
    let heads = AttentionHeads::new(4, 2, 6);
    let twin_heads = TwinHeads { query: heads.query, key: heads.key, dim: heads.dim };
    let twin_trees: Vec<_> = trees
        .iter()
        .map(|tree| TwinTree { prompt: tree.prompt.clone(), branches: tree.branches.clone() })
        .collect();
    let ((q, q_values), (grad, grad_values)) =
        (random_matrix("q", (rows, 24)), random_matrix("dy", (rows, 24)));
    let ((k, k_values), (v, v_values)) = (random_matrix("k", (rows, 12)), random_matrix("v", (rows, 12)));
    let y = super::attention(&q, &k, &v, &AttentionBatch::new(&trees, heads)).unwrap();
    let twin = attention::forward(&q_values, &k_values, &v_values, &twin_trees, twin_heads);
    assert_twin("y", &y, &twin.y);
    let AttentionOutput { y, lse } = twin;
    let delta = attention::delta(&grad_values, &y, twin_heads);
    let inputs = [&*q_values, &k_values, &v_values, &grad_values];
    let twin = attention::backward(inputs, &lse, &delta, &twin_trees, twin_heads);
    let (dq, dk, dv) =
        super::attention_backward(&q, &k, &v, &grad, &AttentionBatch::new(&trees, heads)).unwrap();
    assert_twin("dq", &dq, &twin.dq);
    assert_twin("dk", &dk, &twin.dk);
    assert_twin("dv", &dv, &twin.dv);
}

#[test]
fn log_probs() {
    let (logits, values) = random_matrix("logits", (5, 24));
    let targets = [5, 0, 23, 7, 7];
    let of = Tensor::new(&targets, &Device::Cpu).unwrap();
    let (ours, gradient) = super::log_prob_of_targets(&logits, &of, Some(DType::F64)).unwrap();
    assert_twin("log-probs", &ours, &log_prob::log_probs(&values, 24, &targets));
    assert_twin("gradient", &gradient.unwrap(), &log_prob::backward(&values, 24, &targets, &[1.0; 5]));
}

#[test]
fn blocks() {
    let dense = random("dense", (3, 512), DType::F32);
    let kinds = [
        (GgmlDType::Q8_0, BlockFormat::Q8_0),
        (GgmlDType::Q4_0, BlockFormat::Q4_0),
        (GgmlDType::Q4K, BlockFormat::Q4K),
        (GgmlDType::Q6K, BlockFormat::Q6K),
    ];
    for (kind, twin) in kinds {
        let quantised = QTensor::quantize(&dense, kind).unwrap();
        let ours =
            quantised.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((kind.block_size(), kind.type_size()), (twin.elements(), twin.bytes()));
        assert_eq!(ours, dequantise(twin, &quantised.data().unwrap()), "{kind:?}");
    }
}
