// AdamW (arXiv 1711.05101) in one pass over all parameters, with f32 weights and moments:
//   g = scale·gradient; m ← β1·m + (1 − β1)·g; v ← β2·v + (1 − β2)·g²; p ← decay·p − rate·m/(√v + ε)
// `rate` and `epsilon` include the bias corrections. Each product and sum is rounded separately (no
// FMA), so the GPU gives the bits of the CPU's loop. This costs no time, because the kernel is
// memory-bound. And the sums of squares for the norm of the gradients that precedes a step.
//
// Tensors are passed as arrays of pointers with their numbers of elements. The y index of a block
// selects the tensor.

template <typename T>
__device__ void adamw(float *value, float *first, float *second, const T *gradient, u64 count, float beta1, float beta2,
                      float scale, float rate, float epsilon, float decay) {
    for (u64 i = first_element(); i < count; i += element_step()) {
        const float g = __fmul_rn(to_float(gradient[i]), scale);
        const float m = __fadd_rn(__fmul_rn(beta1, first[i]), __fmul_rn(1.0f - beta1, g));
        const float v = __fadd_rn(__fmul_rn(beta2, second[i]), __fmul_rn(__fmul_rn(1.0f - beta2, g), g));
        first[i] = m;
        second[i] = v;
        const float step = __fdiv_rn(__fmul_rn(rate, m), __fadd_rn(__fsqrt_rn(v), epsilon));
        value[i] = __fadd_rn(__fmul_rn(decay, value[i]), -step);
    }
}

// `sums` has an f64 for each warp of each block: [tensors, blocks, warps]. A product of two f32 is
// exact in f64.
template <typename T>
__device__ void squares(double *sums, const T *tensor, u64 count) {
    double sum = 0.0;
    for (u64 i = first_element(); i < count; i += element_step()) {
        const double x = to_float(tensor[i]);
        sum += x * x;
    }
    sum = warp_sum(sum);
    const u64 block = (u64)blockIdx.y * gridDim.x + blockIdx.x;
    if (threadIdx.x % WARP == 0) sums[(block * blockDim.x + threadIdx.x) / WARP] = sum;
}

#define ENTRIES(T, suffix)                                                                                             \
    extern "C" __global__ void adamw_##suffix(float *const *values, float *const *firsts, float *const *seconds,       \
                                              const T *const *gradients, const u64 *counts, float beta1, float beta2,  \
                                              float scale, float rate, float epsilon, float decay) {                   \
        const u32 i = blockIdx.y;                                                                                      \
        adamw(values[i], firsts[i], seconds[i], gradients[i], counts[i], beta1, beta2, scale, rate, epsilon, decay);   \
    }                                                                                                                  \
    extern "C" __global__ void squares_##suffix(double *sums, const T *const *tensors, const u64 *counts) {            \
        squares(sums, tensors[blockIdx.y], counts[blockIdx.y]);                                                        \
    }

ENTRIES(float, f32)
ENTRIES(bf16, bf16)
#undef ENTRIES
