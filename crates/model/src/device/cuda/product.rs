//! Products of bf16 matrices with an f32 result, which candle does not offer.

use candle_core::{
    CudaDevice, CudaStorage, DType, Result, Shape, Storage, Tensor, bail,
    cuda_backend::{
        WrapErr,
        cudarc::{
            cublas::{result::gemm_strided_batched_ex, sys},
            driver::{DevicePtr, DevicePtrMut},
        },
    },
    op::BackpropOp,
};

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
        Ok(Self { transposed, leading: i32::try_from(leading).unwrap_or(i32::MAX), stride })
    }
}

/// Returns left·right in f32. `left` is `[m, k]` or `[batch, m, k]`, `right` is `[k, n]` or
/// `[batch, k, n]`, both bf16.
pub(crate) fn wide_matmul(gpu: &CudaDevice, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let ((m, k), (inner, n)) = match (left.dims(), right.dims()) {
        ([m, k], [inner, n]) => ((*m, *k), (*inner, *n)),
        ([batch, m, k], [same, inner, n]) if batch == same => ((*m, *k), (*inner, *n)),
        (left, right) => bail!("no product of shapes {left:?} and {right:?}"),
    };
    if k != inner || left.dtype() != DType::BF16 || right.dtype() != DType::BF16 {
        bail!("no product of {:?} and {:?}", left, right);
    }
    let batch = if left.rank() == 3 { left.dim(0)? } else { 1 };
    let shape = if left.rank() == 3 { Shape::from((batch, m, n)) } else { Shape::from((m, n)) };
    // cuBLAS is column-major, so it computes the transposed product rightᵀ·leftᵀ.
    let (a, b) = (Operand::new(right)?, Operand::new(left)?);
    // SAFETY: the product writes every element.
    #[expect(unsafe_code, reason = "uninitialised memory")]
    let mut output = unsafe { gpu.alloc::<f32>(batch * m * n)? };
    {
        let stream = gpu.cuda_stream();
        let ((left, left_layout), (right, right_layout)) =
            (left.storage_and_layout(), right.storage_and_layout());
        let (Storage::Cuda(left), Storage::Cuda(right)) = (&*left, &*right) else {
            bail!("both matrices of a product must be on the GPU");
        };
        let left = left.as_cuda_slice::<half::bf16>()?.slice(left_layout.start_offset()..);
        let right = right.as_cuda_slice::<half::bf16>()?.slice(right_layout.start_offset()..);
        let ((left, _left_use), (right, _right_use)) = (left.device_ptr(&stream), right.device_ptr(&stream));
        let (result, _result_use) = output.device_ptr_mut(&stream);
        let (one, zero) = (1f32, 0f32);
        let size = |size: usize| i32::try_from(size).unwrap_or(i32::MAX);
        // SAFETY: pointers, strides and sizes describe the tensors above, whose slices live on.
        #[expect(unsafe_code, reason = "a call of cuBLAS")]
        let multiplied = unsafe {
            gemm_strided_batched_ex(
                *gpu.cublas_handle().handle(),
                a.transposed,
                b.transposed,
                size(n),
                size(m),
                size(k),
                (&raw const one).cast(),
                right as *const _,
                sys::cudaDataType_t::CUDA_R_16BF,
                a.leading,
                a.stride,
                left as *const _,
                sys::cudaDataType_t::CUDA_R_16BF,
                b.leading,
                b.stride,
                (&raw const zero).cast(),
                result as *mut _,
                sys::cudaDataType_t::CUDA_R_32F,
                size(n),
                (m * n) as i64,
                size(batch),
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        multiplied.w()?;
    }
    let output = Storage::Cuda(CudaStorage::wrap_cuda_slice(output, gpu.clone()));
    Ok(Tensor::from_storage(output, shape, BackpropOp::none(), false))
}
