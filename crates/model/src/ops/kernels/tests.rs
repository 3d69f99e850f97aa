//! Operations as kernels on the emulated GPU, against those composed of candle's operations.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout};
use prospect_kernels::{
    Element, Kernel, Launch,
    check::{Argument, Machine},
};
use prospect_testkit::emulator::Emulator;

use super::{super::composed, *};
use crate::ops::tests::{flat, forest, random, targets};

/// Launcher that runs kernels on CPU tensors.
struct Emulated(RefCell<Emulator>);

fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    Ok(match flat.dtype() {
        DType::F32 => Element::F32.encode(&flat.to_vec1()?),
        DType::BF16 => Element::Bf16.encode(&flat.to_dtype(DType::F32)?.to_vec1()?),
        DType::F64 => flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_le_bytes).collect(),
        DType::U32 => flat.to_vec1::<u32>()?.into_iter().flat_map(u32::to_le_bytes).collect(),
        other => bail!("{other:?}"),
    })
}

impl KernelLauncher for Emulated {
    fn launch(&self, kernel: &Kernel, launch: &Launch, args: Vec<KernelArg<'_>>) -> Result<Vec<Tensor>> {
        assert_eq!(args.len(), kernel.parameters.len(), "{}", kernel.signature());
        let mut arguments = Vec::new();
        for arg in &args {
            arguments.push(match arg {
                KernelArg::Null => Argument::Null,
                KernelArg::Tensor(tensor) => Argument::Buffer(bytes(tensor)?),
                KernelArg::Each(tensors) | KernelArg::EachChanged(tensors) => {
                    Argument::Buffers(tensors.iter().map(|tensor| bytes(tensor)).collect::<Result<_>>()?)
                }
                KernelArg::Numbers(numbers) => {
                    Argument::Buffer(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
                }
                KernelArg::Blocks(matrix) => Argument::Buffer(matrix.data()?.into_owned()),
                // NaNs, which the kernel must overwrite.
                KernelArg::New(shape, dtype) => {
                    Argument::Buffer(vec![0xff; shape.elem_count() * dtype.size_in_bytes()])
                }
                KernelArg::F32(value) => Argument::F32(*value),
                KernelArg::U32(value) => Argument::U32(*value),
                KernelArg::U64(value) => Argument::U64(*value),
            });
        }
        self.0.borrow_mut().run(kernel, launch, &mut arguments).map_err(Error::msg)?;
        let overwrite = |tensor: &Tensor, bytes| tensor.inplace_op1(&Overwrite(bytes)).err().map(Err);
        let made = args.into_iter().zip(arguments).filter_map(|(arg, argument)| match (arg, argument) {
            (KernelArg::EachChanged(tensors), Argument::Buffers(each)) => {
                tensors.into_iter().zip(each).find_map(|(tensor, bytes)| overwrite(tensor, bytes))
            }
            (KernelArg::New(shape, dtype), Argument::Buffer(bytes)) => {
                Some(Tensor::from_raw_buffer(&bytes, dtype, shape.dims(), &Device::Cpu))
            }
            _ => None,
        });
        made.collect()
    }
}

/// Copies a kernel's result back into its tensor.
struct Overwrite(Vec<u8>);

impl InplaceOp1 for Overwrite {
    fn name(&self) -> &'static str {
        "overwrite"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let place = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
        match storage {
            CpuStorage::F32(values) => values[place].copy_from_slice(&Element::F32.decode(&self.0)),
            CpuStorage::BF16(values) => {
                let decoded = Tensor::new(Element::Bf16.decode(&self.0), &Device::Cpu)?;
                values[place].copy_from_slice(&decoded.to_dtype(DType::BF16)?.to_vec1()?);
            }
            _ => bail!("a kernel changes f32 and bf16 only"),
        }
        Ok(())
    }
}

/// Asserts agreement. Both compute in f32, but composed operations on bf16 round after each step: a
/// few errors of 2⁻⁸ times values up to about 4.
fn assert_close(what: &str, ours: &Tensor, composed: &Tensor) {
    assert_eq!((ours.dims(), ours.dtype()), (composed.dims(), composed.dtype()), "{what}");
    let tolerance = if ours.dtype() == DType::BF16 { 0.06 } else { 2e-5 };
    for (index, (ours, composed)) in flat(ours).iter().zip(flat(composed)).enumerate() {
        let error = (ours - composed).abs();
        assert!(error <= tolerance * (1.0 + composed.abs()), "{what}[{index}]: {ours} {composed}");
    }
}

#[test]
fn operations_as_kernels_equal_composed_ones() {
    let emulator = Emulator::for_all_kernels();
    let ours = &Emulated(RefCell::new(emulator));
    for dtype in [DType::F32, DType::BF16] {
        let (x, grad, up) =
            (random("x", (9, 24), dtype), random("grad", (9, 24), dtype), random("up", (9, 24), dtype));
        let weight = random("w", (1, 24), dtype).squeeze(0).unwrap();
        let (y, inverse) = rms_norm(ours, &x, &weight, 1e-5).unwrap();
        let composed_ = composed::rms_norm(&x, &weight, 1e-5).unwrap();
        assert_close("norm", &y, &composed_.0);
        assert_close("inverse rms", &inverse, &composed_.1);
        for residual in [None, Some(&up)] {
            let dx = rms_norm_backward(ours, &x, &weight, &inverse, &grad, residual).unwrap();
            let composed_ = composed::rms_norm_backward(&x, &weight, &inverse, &grad, residual).unwrap();
            assert_close("norm backward", &dx, &composed_);
        }
        let d_weight = rms_norm_weight_grad(ours, &x, &inverse, &grad).unwrap();
        let composed_ = composed::rms_norm_weight_grad(&x, &inverse, &grad).unwrap();
        assert_close("norm weight", &d_weight, &composed_);

        let (cos, sin) = (random("cos", (9, 3), dtype), random("sin", (9, 3), dtype));
        for pairs in [RotaryPairs::Halves, RotaryPairs::Interleaved] {
            for (inverse, head_dim) in [(false, 6), (true, 6), (false, 8), (true, 8)] {
                let y = rotary(ours, &x, &cos, &sin, head_dim, pairs, inverse).unwrap();
                let composed_ = composed::rotary(&x, &cos, &sin, head_dim, pairs, inverse).unwrap();
                assert_close("rotary", &y, &composed_);
            }
        }

        let silu = gated_silu(ours, &x, &up).unwrap();
        assert_close("silu", &silu, &composed::gated_silu(&x, &up).unwrap());
        let d_silu = gated_silu_backward(ours, &x, &up, &grad).unwrap();
        let composed_ = composed::gated_silu_backward(&x, &up, &grad).unwrap();
        assert_close("silu gate", &d_silu.0, &composed_.0);
        assert_close("silu up", &d_silu.1, &composed_.1);
        for form in [GeluKind::Exact, GeluKind::Tanh] {
            assert_close("gelu", &gelu(ours, &x, form).unwrap(), &composed::gelu(&x, form).unwrap());
            let dx = gelu_backward(ours, &x, &grad, form).unwrap();
            assert_close("gelu backward", &dx, &composed::gelu_backward(&x, &grad, form).unwrap());
        }

        let (trees, rows) = forest(0);
        let heads = AttentionHeads::new(4, 2, 6);
        let (q, grad) = (random("q", (rows, 24), dtype), random("dy", (rows, 24), dtype));
        let (k, v) = (random("k", (rows, 12), dtype), random("v", (rows, 12), dtype));
        let batch = AttentionBatch::new(&trees, heads);
        let y = attention(ours, &q, &k, &v, &batch).unwrap();
        assert_close("attention", &y, &composed::attention(&q, &k, &v, &batch).unwrap());
        let (dq, dk, dv) = attention_backward(ours, &q, &k, &v, &grad, &batch).unwrap();
        let composed_ = composed::attention_backward(&q, &k, &v, &grad, &batch).unwrap();
        assert_close("attention dq", &dq, &composed_.0);
        assert_close("attention dk", &dk, &composed_.1);
        assert_close("attention dv", &dv, &composed_.2);

        let targets = targets(9, 24);
        let (log_probs, d_logits) = log_prob_of_targets(ours, &x, &targets, true).unwrap();
        let composed_ = composed::log_prob_of_targets(&x, &targets, true).unwrap();
        assert_close("log-probs", &log_probs, &composed_.0);
        assert_close("head", &d_logits.unwrap(), &composed_.1.unwrap());
        let (again, none) = log_prob_of_targets(ours, &x, &targets, false).unwrap();
        assert!(flat(&again) == flat(&log_probs) && none.is_none());
    }
}

#[test]
fn a_step_changes_parameter_and_moments_where_they_are() {
    let emulator = Emulator::for_all_kernels();
    let ours = &Emulated(RefCell::new(emulator));
    let constants =
        AdamWConstants { beta1: 0.9, beta2: 0.95, scale: 0.5, rate: 0.01, epsilon: 1e-8, decay: 0.999 };
    let f32s = |tensor: &Tensor| flat(tensor).into_iter().map(|number| number as f32).collect::<Vec<_>>();
    for dtype in [DType::F32, DType::BF16] {
        // Parameters of different shapes, in one launch.
        let tensors: Vec<_> = [(9, 24), (1, 1), (40, 50)]
            .map(|shape| {
                let f32 = |name| random(name, shape, DType::F32);
                (f32("value"), random("gradient", shape, dtype), [f32("m"), f32("v").sqr().unwrap()])
            })
            .into();
        let expected: Vec<_> = tensors
            .iter()
            .map(|(value, gradient, [first, second])| {
                let [mut p, mut m, mut v] = [value, first, second].map(f32s);
                prospect_kernels::adamw::step(&mut p, &mut m, &mut v, &f32s(gradient), &constants);
                [p, m, v]
            })
            .collect();
        let updates: Vec<_> = tensors
            .iter()
            .map(|(value, gradient, moments)| AdamWUpdate { value, gradient, moments: moments.each_ref() })
            .collect();
        super::adamw(ours, &updates, &constants).unwrap();
        for ((value, _, [first, second]), expected) in tensors.iter().zip(expected) {
            assert_eq!([value, first, second].map(f32s), expected);
        }
    }
}

#[test]
fn squares_of_all_tensors_are_summed_in_one_launch() {
    let emulator = Emulator::for_all_kernels();
    let ours = &Emulated(RefCell::new(emulator));
    for dtype in [DType::F32, DType::BF16] {
        let tensors = [(9, 24), (1, 1), (40, 50)].map(|shape| random("gradient", shape, dtype));
        let expected: f64 = tensors.iter().flat_map(flat).map(|x| x * x).sum();
        let found = sum_of_squares(ours, &tensors.each_ref()).unwrap();
        assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
    }
    assert_eq!(sum_of_squares(ours, &[]).unwrap(), 0.0);
}

#[test]
fn blocks_become_numbers_as_candle_has_them() {
    let emulator = Emulator::for_all_kernels();
    let ours = &Emulated(RefCell::new(emulator));
    let dense = random("blocks", (3, 512), DType::F32);
    for kind in [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4K, GgmlDType::Q6K] {
        let matrix = QTensor::quantize(&dense, kind).unwrap();
        for dtype in [DType::F32, DType::BF16] {
            let elements = dequantise(ours, &matrix, dtype).unwrap().unwrap();
            let expected = matrix.dequantize(&Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            assert_eq!((elements.dims(), flat(&elements)), (expected.dims(), flat(&expected)), "{kind:?}");
        }
    }
    let other = QTensor::quantize(&dense, GgmlDType::Q5_0).unwrap();
    assert!(dequantise(ours, &other, DType::F32).unwrap().is_none());
}
