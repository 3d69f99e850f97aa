//! How far results are from what they should be, and the numbers that checks are made of.

use super::Argument;
use crate::Element;

/// The largest error of `got`, as a share of what is allowed: half a unit of its type, and `units` of f32 of the largest
/// number.
pub(super) fn error(got: &Argument, element: Element, want: &[f64], units: f64) -> f64 {
    error_beside(got, element, want, units, 0.0)
}

/// The same where numbers of about `size` cancel out, so that the results may be much smaller than their errors.
pub(super) fn error_beside(got: &Argument, element: Element, want: &[f64], units: f64, size: f64) -> f64 {
    largest_share(&got.numbers(element), want, element.half_unit(), units, size)
}

pub(super) fn largest_share(got: &[f64], want: &[f64], half_unit: f64, units: f64, size: f64) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let finite = want.iter().filter(|x| x.is_finite());
    let largest = finite.fold(size.max(f64::MIN_POSITIVE), |largest, x| x.abs().max(largest));
    let share = |(got, want): (&f64, &f64)| {
        if got == want {
            return 0.0;
        }
        let share =
            (got - want).abs() / (units * Element::F32.half_unit() * largest + half_unit * want.abs());
        if share.is_nan() { f64::INFINITY } else { share }
    };
    got.iter().zip(want).map(share).fold(0.0, f64::max)
}

/// 0 if the bytes are the same.
pub(super) fn difference(got: &Argument, want: &[u8]) -> f64 {
    if got.bytes() == want { 0.0 } else { f64::INFINITY }
}

/// `count` numbers of mean 0 and variance 1, the same for the same seed.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut draws = Draws(seed);
    (0..count)
        .map(|_| (draws.unit() + draws.unit() + draws.unit() + draws.unit() - 2.0) * 3f64.sqrt())
        .collect()
}

/// SplitMix64.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// In [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Below `end`.
    pub(super) fn below(&mut self, end: u64) -> usize {
        (self.next() % end.max(1)) as usize
    }
}

#[cfg(test)]
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Compares `gradient` with central differences of `f` along every element of `x`.
#[cfg(test)]
pub(crate) fn assert_derivative(what: &str, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    let step = 1e-5;
    assert_eq!(x.len(), gradient.len(), "{what}");
    for index in 0..x.len() {
        let moved = |by: f64| {
            let mut x = x.to_vec();
            x[index] += by;
            f(&x)
        };
        let numeric = (moved(step) - moved(-step)) / (2.0 * step);
        let error = (gradient[index] - numeric).abs();
        assert!(error < 1e-7 * (1.0 + numeric.abs()), "{what}[{index}]: {} {numeric}", gradient[index]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Input;

    #[test]
    fn what_is_not_written_or_of_another_size_fails() {
        let unwritten = Argument::unwritten(Element::Bf16, 2);
        assert_eq!(error(&unwritten, Element::Bf16, &[1.0, 2.0], 1e9), f64::INFINITY);
        let written = Input::new(Element::F32, &[1.0, 2.0]).argument();
        assert_eq!(error(&written, Element::F32, &[1.0, 2.0, 3.0], 1.0), f64::INFINITY);
        assert_eq!(error(&written, Element::F32, &[1.0, 2.0], 1.0), 0.0);
        let one_unit = error(&written, Element::F32, &[1.0, 2.0 + 2f64.powi(-23)], 0.0);
        assert!((one_unit - 1.0).abs() < 1e-6, "{one_unit}");
    }

    #[test]
    fn numbers_have_mean_0_and_variance_1() {
        let numbers = numbers(7, 100_000);
        let mean = numbers.iter().sum::<f64>() / 1e5;
        let variance = numbers.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
