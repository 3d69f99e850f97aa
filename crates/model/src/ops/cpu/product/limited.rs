//! Kernels of `gemm` for f32 and an instruction set older than the newest, which `gemm` would use.

#![expect(unsafe_code, reason = "gemm takes pointers")]

use gemm::Parallelism;
use gemm_common::{
    gemm::gemm_basic_generic,
    simd::{MixedSimd, Scalar, V3},
};

use crate::ops::cpu::isa::Isa;

/// Matrices of a product: target (m × n) = \[target +\] scale · left (m × k) · right (k × n).
///
/// Strides are those of rows and columns; columns of the target are one element apart.
#[derive(Clone, Copy)]
pub(super) struct Matrices {
    pub(super) shape: (usize, usize, usize),
    pub(super) target: *mut f32,
    pub(super) target_stride: isize,
    pub(super) add: bool,
    pub(super) left: *const f32,
    pub(super) left_strides: (isize, isize),
    pub(super) right: *const f32,
    pub(super) right_strides: (isize, isize),
    pub(super) scale: f32,
}

/// Calls the kernels of a module for vectors of a width.
macro_rules! multiply {
    ($matrices:expr, $threads:expr, $simd:expr, $module:ident, $width:literal) => {{
        use gemm_f32::microkernel::$module::f32::{H_M, H_N, H_UKR, MR_DIV_N, NR, UKR};
        let matrices = $matrices;
        let (m, n, k) = matrices.shape;
        // Kernels expect columns in consecutive memory, so they compute the transposed product.
        gemm_basic_generic::<_, f32, $width, { MR_DIV_N * $width }, NR, MR_DIV_N, H_M, H_N>(
            $simd,
            n,
            m,
            k,
            matrices.target,
            matrices.target_stride,
            1,
            matrices.add,
            matrices.right,
            matrices.right_strides.0,
            matrices.right_strides.1,
            matrices.left,
            matrices.left_strides.0,
            matrices.left_strides.1,
            if matrices.add { 1.0 } else { 0.0 },
            matrices.scale,
            false,
            false,
            false,
            |a, b, c| a * b + c,
            &UKR,
            &H_UKR,
            false,
            $threads,
        );
    }};
}

/// Computes a product with kernels up to `isa`. Returns false, and computes nothing, if those are
/// the kernels that `gemm` chooses.
///
/// # Safety
/// As for `gemm::gemm`.
pub(super) unsafe fn multiply(isa: Isa, matrices: &Matrices, threads: Parallelism) -> bool {
    // SAFETY: guaranteed by the caller; `V3` exists only on machines with AVX2 and FMA.
    unsafe {
        match isa {
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::AmxBf16 => return false,
            Isa::Avx2 => match <V3 as MixedSimd<f32, f32, f32, f32>>::try_new() {
                Some(simd) => multiply!(matrices, threads, simd, fma, 8),
                None => return false,
            },
            Isa::Scalar => multiply!(matrices, threads, Scalar, scalar, 1),
        }
    }
    true
}
