// MLP activations: SwiGLU, silu(gate)·up, and GELU, exact or with the tanh approximation.

// 1/(1 + e^−x), without overflow for large |x|.
__device__ inline float sigmoid(float x) {
    const float e = expf(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

struct ValueAndSlope {
    float value, slope;
};

// x·Φ(x) and Φ(x) + x·φ(x). Φ is computed by erfc, which stays accurate for very negative x.
struct Exact {
    __device__ static ValueAndSlope at(float x) {
        const float below = 0.5f * erfcf(x * -0.707106781f);
        const float density = 0.398942280f * expf(-0.5f * x * x);
        return {x * below, below + x * density};
    }
};

// x·(1 + tanh u)/2 = x·σ(2u) with u = √(2/π)·(x + 0.044715·x³).
struct Tanh {
    __device__ static ValueAndSlope at(float x) {
        const float share = sigmoid(1.595769122f * x * (1.0f + 0.044715f * x * x));
        const float inner = 1.595769122f * (1.0f + 3.0f * 0.044715f * x * x);
        return {x * share, share + x * share * (1.0f - share) * inner};
    }
};

template <typename T>
__device__ void gated_silu(T *y, const T *gate, const T *up, u64 count) {
    for (u64 i = first_element(); i < count; i += element_step()) {
        const float x = to_float(gate[i]);
        store(&y[i], x * sigmoid(x) * to_float(up[i]));
    }
}

template <typename T>
__device__ void gated_silu_backward(T *d_gate, T *d_up, const T *gate, const T *up, const T *grad, u64 count) {
    for (u64 i = first_element(); i < count; i += element_step()) {
        const float x = to_float(gate[i]), share = sigmoid(x), silu = x * share, g = to_float(grad[i]);
        // silu' = σ + silu·(1 − σ)
        store(&d_gate[i], g * to_float(up[i]) * (share + silu * (1.0f - share)));
        store(&d_up[i], g * silu);
    }
}

template <typename Form, typename T>
__device__ void gelu(T *y, const T *x, u64 count) {
    for (u64 i = first_element(); i < count; i += element_step()) store(&y[i], Form::at(to_float(x[i])).value);
}

template <typename Form, typename T>
__device__ void gelu_backward(T *dx, const T *x, const T *grad, u64 count) {
    for (u64 i = first_element(); i < count; i += element_step())
        store(&dx[i], to_float(grad[i]) * Form::at(to_float(x[i])).slope);
}

#define ENTRIES(T, suffix)                                                                                             \
    extern "C" __global__ void gated_silu_##suffix(T *y, const T *gate, const T *up, u64 count) {                      \
        gated_silu(y, gate, up, count);                                                                                \
    }                                                                                                                  \
    extern "C" __global__ void gated_silu_backward_##suffix(T *d_gate, T *d_up, const T *gate, const T *up,            \
                                                            const T *grad, u64 count) {                                \
        gated_silu_backward(d_gate, d_up, gate, up, grad, count);                                                      \
    }                                                                                                                  \
    extern "C" __global__ void gelu_exact_##suffix(T *y, const T *x, u64 count) { gelu<Exact>(y, x, count); }          \
    extern "C" __global__ void gelu_exact_backward_##suffix(T *dx, const T *x, const T *grad, u64 count) {             \
        gelu_backward<Exact>(dx, x, grad, count);                                                                      \
    }                                                                                                                  \
    extern "C" __global__ void gelu_tanh_##suffix(T *y, const T *x, u64 count) { gelu<Tanh>(y, x, count); }            \
    extern "C" __global__ void gelu_tanh_backward_##suffix(T *dx, const T *x, const T *grad, u64 count) {              \
        gelu_backward<Tanh>(dx, x, grad, count);                                                                       \
    }

ENTRIES(float, f32)
ENTRIES(bf16, bf16)
#undef ENTRIES
