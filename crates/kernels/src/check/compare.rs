//! Errors of results.

use super::Argument;
use crate::Element;

/// Returns the largest error of `got` divided by its tolerance: half a unit of its type plus
/// `units` f32 units of the largest expected value.
pub(super) fn error(got: &Argument, element: Element, want: &[f64], units: f64) -> f64 {
    error_with_cancellation(got, element, want, units, 0.0)
}

/// Like [`error`], for results in which values of about `size` cancel, so that errors may exceed
/// the results.
pub(super) fn error_with_cancellation(
    got: &Argument,
    element: Element,
    want: &[f64],
    units: f64,
    size: f64,
) -> f64 {
    max_relative_error(&got.elements(element), want, element.half_ulp(), units, size)
}

pub(super) fn max_relative_error(got: &[f64], want: &[f64], half_ulp: f64, units: f64, size: f64) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let finite = want.iter().filter(|x| x.is_finite());
    let largest = finite.fold(size.max(f64::MIN_POSITIVE), |largest, x| x.abs().max(largest));
    let share = |(got, want): (&f64, &f64)| {
        if got == want {
            return 0.0;
        }
        let share = (got - want).abs() / (units * Element::F32.half_ulp() * largest + half_ulp * want.abs());
        if share.is_nan() { f64::INFINITY } else { share }
    };
    got.iter().zip(want).map(share).fold(0.0, f64::max)
}

/// Returns 0 for equal bytes, infinity otherwise. Several buffers are compared as one.
pub(super) fn bit_difference(got: &Argument, want: &[u8]) -> f64 {
    let equal = match got {
        Argument::Buffers(each) => each.concat() == want,
        other => other.bytes() == want,
    };
    if equal { 0.0 } else { f64::INFINITY }
}

#[cfg(test)]
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Asserts that `gradient` agrees with central differences of `f` in every element of `x`.
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
    use crate::check::TwinInput;

    #[test]
    fn unwritten_elements_and_other_sizes_fail() {
        let unwritten = Argument::unwritten(Element::Bf16, 2);
        assert_eq!(error(&unwritten, Element::Bf16, &[1.0, 2.0], 1e9), f64::INFINITY);
        let written = TwinInput::new(Element::F32, &[1.0, 2.0]).argument();
        assert_eq!(error(&written, Element::F32, &[1.0, 2.0, 3.0], 1.0), f64::INFINITY);
        assert_eq!(error(&written, Element::F32, &[1.0, 2.0], 1.0), 0.0);
        let one_unit = error(&written, Element::F32, &[1.0, 2.0 + 2f64.powi(-23)], 0.0);
        assert!((one_unit - 1.0).abs() < 1e-6, "{one_unit}");
    }
}
