//! Products of matrices that candle does not offer, by cuBLAS: with f32 results of bf16 matrices,
//! and added to a tensor.

use candle_core::{
    CpuStorage, CudaStorage, DType, InplaceOp1, Layout, Result, Tensor,
    backend::BackendStorage,
    bail,
    cuda_backend::{
        WrapErr,
        cudarc::cublas::{result::gemm_strided_batched_ex, sys},
    },
};

use super::gpu::{address, pointer};

/// One operand as cuBLAS reads it: column-major, transposed or not, with a leading dimension and
/// the distance between matrices.
struct Operand {
    transposed: sys::cublasOperation_t,
    leading: i32,
    stride: i64,
}

impl Operand {
    /// Describes the last two dimensions of a row-major tensor, or of its transposed view.
    fn new(tensor: &Tensor) -> Result<Self> {
        let (dims, strides) = (tensor.dims(), tensor.stride());
        let ([.., rows, columns], [before @ .., down, right]) = (dims, strides) else {
            bail!("a product needs matrices, not a tensor of shape {dims:?}");
        };
        let (transposed, leading) = if *right == 1 || *columns == 1 {
            (sys::cublasOperation_t::CUBLAS_OP_N, (*down).max(*columns))
        } else if *down == 1 || *rows == 1 {
            (sys::cublasOperation_t::CUBLAS_OP_T, (*right).max(*rows))
        } else {
            bail!("a product needs matrices whose rows or columns are contiguous, not strides {strides:?}");
        };
        let stride = before.first().copied().unwrap_or(0) as i64;
        Ok(Self { transposed, leading: size(leading)?, stride })
    }
}

fn size(size: usize) -> Result<i32> {
    i32::try_from(size).map_err(|_| candle_core::Error::msg(format!("{size} is too large for cuBLAS")))
}

/// Returns alpha·left·right as a new tensor of the type `to`. See [`add_product`].
pub(crate) fn product(left: &Tensor, right: &Tensor, alpha: f64, to: DType) -> Result<Tensor> {
    let ([batch @ .., m, _], [.., n]) = (left.dims(), right.dims()) else {
        bail!("a product needs matrices");
    };
    let shape = [batch, &[*m, *n]].concat();
    // SAFETY: the product writes every element.
    #[expect(unsafe_code, reason = "uninitialised memory")]
    let result = unsafe { Tensor::empty(shape, to, left.device()) }?;
    result.inplace_op1(&Product { left, right, alpha, beta: 0.0 })?;
    Ok(result)
}

/// Adds alpha·left·right to a contiguous tensor, in its memory.
///
/// `left` is `[m, k]` or `[batch, m, k]`, `right` is `[k, n]` or `[batch, k, n]`. Both have the
/// type of `sum`, or are bf16 while `sum` is f32.
pub(crate) fn add_product(sum: &Tensor, left: &Tensor, right: &Tensor, alpha: f64) -> Result<()> {
    sum.inplace_op1(&Product { left, right, alpha, beta: 1.0 })
}

/// Computes target = alpha·left·right + beta·target.
struct Product<'a> {
    left: &'a Tensor,
    right: &'a Tensor,
    alpha: f64,
    beta: f64,
}

impl InplaceOp1 for Product<'_> {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("a product by cuBLAS needs a GPU")
    }

    fn cuda_fwd(&self, target: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let Self { left, right, alpha, beta } = *self;
        let (batch, m, k, n) = match (left.dims(), right.dims(), layout.dims()) {
            ([m, k], [inner, n], [rows, columns]) if (inner, rows, columns) == (k, m, n) => (1, *m, *k, *n),
            ([batch, m, k], [same, inner, n], [count, rows, columns])
                if (inner, rows, columns) == (k, m, n) && (same, count) == (batch, batch) =>
            {
                (*batch, *m, *k, *n)
            }
            (left, right, target) => bail!("no product of shapes {left:?} and {right:?} is {target:?}"),
        };
        let (of, to) = (left.dtype(), target.dtype());
        if right.dtype() != of || !(of == to || (of == DType::BF16 && to == DType::F32)) {
            bail!("no product of {of:?} and {:?} is {to:?}", right.dtype());
        }
        let Some((first, _)) = layout.contiguous_offsets() else {
            bail!("a product needs a contiguous result");
        };
        let result = address(target)? + (first * to.size_in_bytes()) as u64;
        // cuBLAS is column-major, so it computes the transposed product rightᵀ·leftᵀ.
        let ((a, b), (a_at, b_at)) =
            ((Operand::new(right)?, Operand::new(left)?), (pointer(right)?, pointer(left)?));
        // The type of the factors is that of the sums.
        let (narrow, wide) = ([alpha as f32, beta as f32], [alpha, beta]);
        let ([alpha, beta], compute): ([*const std::ffi::c_void; 2], _) = if to == DType::F64 {
            (wide.each_ref().map(|x| (&raw const *x).cast()), sys::cublasComputeType_t::CUBLAS_COMPUTE_64F)
        } else {
            (narrow.each_ref().map(|x| (&raw const *x).cast()), sys::cublasComputeType_t::CUBLAS_COMPUTE_32F)
        };
        // SAFETY: pointers, strides and sizes describe the tensors, which outlive the call; cuBLAS
        // reads the two factors at once.
        #[expect(unsafe_code, reason = "a call of cuBLAS")]
        let multiplied = unsafe {
            gemm_strided_batched_ex(
                *target.device.cublas_handle().handle(),
                a.transposed,
                b.transposed,
                size(n)?,
                size(m)?,
                size(k)?,
                alpha,
                a_at as *const _,
                type_of(of)?,
                a.leading,
                a.stride,
                b_at as *const _,
                type_of(of)?,
                b.leading,
                b.stride,
                beta,
                result as *mut _,
                type_of(to)?,
                size(n)?,
                (m * n) as i64,
                size(batch)?,
                compute,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        multiplied.w()
    }
}

fn type_of(dtype: DType) -> Result<sys::cudaDataType_t> {
    match dtype {
        DType::F32 => Ok(sys::cudaDataType_t::CUDA_R_32F),
        DType::F64 => Ok(sys::cudaDataType_t::CUDA_R_64F),
        DType::BF16 => Ok(sys::cudaDataType_t::CUDA_R_16BF),
        other => bail!("no product of {other:?} matrices"),
    }
}
