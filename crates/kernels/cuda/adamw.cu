// AdamW (arXiv 1711.05101) in one pass over the parameters, with moments in f32:
//   g = scale·gradient; m ← β1·m + (1 − β1)·g; v ← β2·v + (1 − β2)·g²; p ← decay·p − rate·m/(√v + ε)
// `rate` and `epsilon` include the bias corrections. Each product and sum is rounded separately (no
// FMA), so the GPU gives the bits of the CPU's loop. This costs no time, because the kernel is
// memory-bound.

template <typename T>
__device__ void adamw(T *value, float *first, float *second, const T *gradient, u64 count, float beta1, float beta2,
                      float scale, float rate, float epsilon, float decay) {
    for (u64 i = first_element(); i < count; i += element_step()) {
        const float g = __fmul_rn(to_float(gradient[i]), scale);
        const float m = __fadd_rn(__fmul_rn(beta1, first[i]), __fmul_rn(1.0f - beta1, g));
        const float v = __fadd_rn(__fmul_rn(beta2, second[i]), __fmul_rn(__fmul_rn(1.0f - beta2, g), g));
        first[i] = m;
        second[i] = v;
        const float step = __fdiv_rn(__fmul_rn(rate, m), __fadd_rn(__fsqrt_rn(v), epsilon));
        store(&value[i], __fadd_rn(__fmul_rn(decay, to_float(value[i])), -step));
    }
}

#define ENTRIES(T, suffix)                                                                                             \
    extern "C" __global__ void adamw_##suffix(T *value, float *first, float *second, const T *gradient, u64 count,     \
                                              float beta1, float beta2, float scale, float rate, float epsilon,        \
                                              float decay) {                                                           \
        adamw(value, first, second, gradient, count, beta1, beta2, scale, rate, epsilon, decay);                       \
    }

ENTRIES(float, f32)
ENTRIES(bf16, bf16)
#undef ENTRIES
