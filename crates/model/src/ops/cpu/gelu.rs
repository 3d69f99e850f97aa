//! GELU, the activation of MLPs without a gate and of some with one.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wide vectors")]

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{
    Opened, Stored, by_stored,
    elementwise::{Activation, BLOCK, gated, gated_backward},
    lanes::{Loop, vectorised},
    real::Real,
    tensor, widened,
};
use crate::architecture::GeluKind;

/// Standard normal distribution function Φ.
trait Normal: Real {
    fn below(self) -> Self;
}

impl Normal for f64 {
    fn below(self) -> Self {
        f64::midpoint(1.0, candle_core::cpu::erf::erf_f64(self * std::f64::consts::FRAC_1_SQRT_2))
    }
}

impl Normal for f32 {
    /// Has an error below 1e-7 (Abramowitz and Stegun, 7.1.26). Written for auto-vectorisation.
    #[inline(always)]
    fn below(self) -> Self {
        let x = self.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let t = (1.0 + 0.327_591_1 * x).recip();
        let p = 1.061_405_4;
        let p = p * t - 1.453_152;
        let p = p * t + 1.421_413_7;
        let p = p * t - 0.284_496_74;
        let p = p * t + 0.254_829_6;
        let tail = 0.5 * p * t * (-x * x).exp_of_negative();
        if self > 0.0 { 1.0 - tail } else { tail }
    }
}

/// Returns gelu(x) and its derivative.
#[inline(always)]
fn gelu_and_slope<T: Normal>(x: T, form: GeluKind) -> (T, T) {
    let (one, half) = (T::ONE, T::nearest(0.5));
    match form {
        GeluKind::Exact => {
            let below = x.below();
            let density =
                (-half * x * x).exp_of_negative() * T::nearest(std::f64::consts::TAU.sqrt().recip());
            (x * below, below + x * density)
        }
        GeluKind::Tanh => {
            let root = T::nearest((2.0 / std::f64::consts::PI).sqrt());
            let cubic = T::nearest(0.044_715);
            // (1 + tanh u)/2 = σ(2u)
            let share = ((root + root) * x * (one + cubic * x * x)).sigmoid();
            let inner = (root + root) * (one + T::nearest(3.0) * cubic * x * x);
            (x * share, share + x * share * (one - share) * inner)
        }
    }
}

struct Gelu(GeluKind);

impl<T: Normal> Activation<T> for Gelu {
    #[inline(always)]
    fn value(&self, x: T) -> T {
        gelu_and_slope(x, self.0).0
    }

    #[inline(always)]
    fn value_and_slope(&self, x: T) -> (T, T) {
        gelu_and_slope(x, self.0)
    }
}

struct GeluBlock;

impl<S: Stored<Wide: Normal>> Loop<(&mut [S], &[S], GeluKind)> for GeluBlock {
    type Output = ();

    #[inline(always)]
    fn run((y, x, form): (&mut [S], &[S], GeluKind)) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = S::round(gelu_and_slope(x.wide(), form).0);
        }
    }
}

struct GeluBackwardBlock;

impl<S: Stored<Wide: Normal>> Loop<(&mut [S], &[S], &[S::Wide], GeluKind)> for GeluBackwardBlock {
    type Output = ();

    #[inline(always)]
    fn run((dx, x, grad, form): (&mut [S], &[S], &[S::Wide], GeluKind)) {
        for ((dx, x), grad) in dx.iter_mut().zip(x).zip(grad) {
            *dx = S::round(*grad * gelu_and_slope(x.wide(), form).1);
        }
    }
}

pub(crate) fn gelu(x: &Tensor, form: GeluKind) -> Result<Tensor> {
    fn run<S: Stored<Wide: Normal>>(x: &Tensor, form: GeluKind) -> Result<Tensor> {
        let shape = x.dims2()?;
        let x = Opened::new(x);
        let x = x.slice::<S>()?;
        let mut y = vec![S::NOTHING; x.len()];
        y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
            vectorised(GeluBlock, (y, x, form));
        });
        tensor(y, shape)
    }
    by_stored!(x, run(x, form))
}

pub(crate) fn gelu_backward(x: &Tensor, grad: &Tensor, form: GeluKind) -> Result<Tensor> {
    fn run<S: Stored<Wide: Normal>>(x: &Tensor, grad: &Tensor, form: GeluKind) -> Result<Tensor> {
        let (shape, grad) = (x.dims2()?, &widened(grad)?);
        let (x, grad) = (Opened::new(x), Opened::new(grad));
        let (x, grad) = (x.slice::<S>()?, grad.slice::<S::Wide>()?);
        let mut dx = vec![S::NOTHING; x.len()];
        dx.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).zip(grad.par_chunks(BLOCK)).for_each(
            |((dx, x), grad)| {
                vectorised(GeluBackwardBlock, (dx, x, grad, form));
            },
        );
        tensor(dx, shape)
    }
    by_stored!(x, run(x, grad, form))
}

pub(crate) fn gated_gelu(gate: &Tensor, up: &Tensor, form: GeluKind) -> Result<Tensor> {
    fn run<S: Stored<Wide: Normal>>(gate: &Tensor, up: &Tensor, form: GeluKind) -> Result<Tensor> {
        gated::<S>(gate, up, &Gelu(form))
    }
    by_stored!(gate, run(gate, up, form))
}

pub(crate) fn gated_gelu_backward(
    gate: &Tensor,
    up: &Tensor,
    grad: &Tensor,
    form: GeluKind,
) -> Result<(Tensor, Tensor)> {
    fn run<S: Stored<Wide: Normal>>(
        gate: &Tensor,
        up: &Tensor,
        grad: &Tensor,
        form: GeluKind,
    ) -> Result<(Tensor, Tensor)> {
        gated_backward::<S>(gate, up, grad, &Gelu(form))
    }
    by_stored!(gate, run(gate, up, grad, form))
}
