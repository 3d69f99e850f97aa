//! Tensors of no element, of less than a warp and of more than the threads of a launch.

use super::{Argument, CheckRunner, TwinInput, max_relative_error};
use crate::{
    Element, KernelError, Launch,
    squares::{self, SQUARES, sum_of_squares},
};

/// Rounding of a sum of a few thousand positive f64.
const RELATIVE: f64 = 1e-13;

pub(super) fn check(runner: &mut CheckRunner<'_>, element: Element) {
    for counts in [&[1][..], &[0, 33, 256], &[5000, 0, 1, 700]] {
        let launch = squares::launch(counts);
        let one_block = launch.clone().map(|launch| Launch { grid: [1, launch.grid[1]], ..launch });
        shape(runner, element, counts, launch, "");
        shape(runner, element, counts, one_block, " in one block each");
    }
}

fn shape(
    runner: &mut CheckRunner<'_>,
    element: Element,
    counts: &[usize],
    launch: Result<Launch, KernelError>,
    how: &str,
) {
    let tensors: Vec<TwinInput> =
        (0..).zip(counts).map(|(seed, count)| TwinInput::random(element, 100 + seed, *count)).collect();
    let parts = launch.as_ref().map_or(1, squares::parts);
    let arguments = vec![
        // NaNs, which the kernel must overwrite.
        Argument::Buffer(vec![0xff; counts.len() * parts * 8]),
        Argument::Buffers(tensors.iter().map(|tensor| tensor.argument().bytes().to_vec()).collect()),
        Argument::u64s(counts),
    ];
    let want: Vec<f64> = tensors.iter().map(|tensor| sum_of_squares(&tensor.values)).collect();
    runner.check(&SQUARES.kernel(element), format!("{counts:?}{how}"), launch, arguments, |got| {
        let sums: Vec<f64> = got[0].doubles().chunks(parts).map(|parts| parts.iter().sum()).collect();
        max_relative_error(&sums, &want, RELATIVE, 0.0, 0.0)
    });
}
