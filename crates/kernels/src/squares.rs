//! Sums of the squares of several tensors, for the norm of all gradients.

use crate::{
    KernelError, Launch, Operation, ScalarType,
    kernel::{ADAMW, read, read_each, write},
    launch::WARP,
};

/// Operation of [`sum_of_squares`] on several tensors, in parts.
///
/// `sums` has an element for each [part](parts) of each tensor. `counts` are the numbers of elements
/// of the tensors.
pub static SQUARES: Operation = Operation {
    source: &ADAMW,
    name: "squares",
    parameters: &[
        write("sums", ScalarType::F64),
        read_each("tensors", ScalarType::Generic),
        read("counts", ScalarType::U64),
    ],
};

pub(crate) static OPERATIONS: &[&Operation] = &[&SQUARES];

/// Most blocks of a tensor: the host adds the sums of their warps.
const MAX_BLOCKS_OF_EACH: u32 = 64;

/// Returns the launch of [`SQUARES`] for tensors with these numbers of elements.
pub fn launch(counts: &[usize]) -> Result<Launch, KernelError> {
    let launch = Launch::elements_of_each(counts)?;
    let [blocks, tensors] = launch.grid;
    Ok(Launch { grid: [blocks.min(MAX_BLOCKS_OF_EACH), tensors], ..launch })
}

/// Returns the number of sums of each tensor that a launch of [`SQUARES`] writes: one per warp.
pub fn parts(launch: &Launch) -> usize {
    launch.grid[0] as usize * (launch.block / WARP) as usize
}

/// Twin of [`SQUARES`] for one tensor: Σ x², in f64.
pub fn sum_of_squares(tensor: &[f64]) -> f64 {
    tensor.iter().map(|x| x * x).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tensors_are_summed_in_a_bounded_number_of_parts() {
        let parts = |counts: &[usize]| parts(&launch(counts).unwrap());
        assert_eq!(parts(&[1]), 8);
        assert_eq!(parts(&[1, 1000]), 4 * 8);
        assert_eq!(parts(&[1 << 30; 300]), 64 * 8);
        assert!(launch(&[]).unwrap().is_empty() && launch(&[0, 0]).unwrap().is_empty());
        assert!(launch(&vec![1; 1 << 16]).unwrap_err().to_string().contains("tensors"));
    }
}
