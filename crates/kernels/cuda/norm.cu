// RMS norm and layer norm, one block per row. A row is read from memory once and from the cache
// afterwards, so several passes over it are cheap. Arithmetic is f32, and each result is rounded
// once.
//
// Without `mean`: RMS norm, y = x·w / √(mean(x²) + ε). With `mean`: layer norm, the same of x −
// mean(x), plus the bias.

template <typename T>
__device__ void norm_forward(T *y, float *mean, float *rstd, const T *x, const T *weight, const T *bias, u32 dim,
                             float epsilon) {
    SHARED_MEMORY(scratch);
    const u64 row = blockIdx.x;
    x += row * dim;
    y += row * dim;
    float centre = 0.0f;
    if (mean) {
        float sum = 0.0f;
        for (u32 i = threadIdx.x; i < dim; i += blockDim.x) sum += to_float(x[i]);
        centre = block_sum(sum, scratch) / dim;
    }
    float square = 0.0f;
    for (u32 i = threadIdx.x; i < dim; i += blockDim.x) {
        const float value = to_float(x[i]) - centre;
        square += value * value;
    }
    // Not rsqrtf, which is approximate.
    const float scale = 1.0f / sqrtf(block_sum(square, scratch) / dim + epsilon);
    if (threadIdx.x == 0) {
        rstd[row] = scale;
        if (mean) mean[row] = centre;
    }
    for (u32 i = threadIdx.x; i < dim; i += blockDim.x) {
        const float value = (to_float(x[i]) - centre) * scale * to_float(weight[i]);
        store(&y[i], bias ? value + to_float(bias[i]) : value);
    }
}

// d loss / d x = residual + g·w·s − x·s³·mean(x·g·w), with the saved s = rstd. For the layer norm,
// x is centred and mean(g·w)·s is subtracted.
template <typename T>
__device__ void norm_backward(T *dx, const T *x, const T *weight, const float *mean, const float *rstd,
                              const T *grad, const T *residual, u32 dim) {
    SHARED_MEMORY(scratch);
    const u64 row = blockIdx.x;
    x += row * dim;
    grad += row * dim;
    dx += row * dim;
    const float centre = mean ? mean[row] : 0.0f, scale = rstd[row];
    float dot = 0.0f, sum = 0.0f;
    for (u32 i = threadIdx.x; i < dim; i += blockDim.x) {
        const float weighted = to_float(grad[i]) * to_float(weight[i]);
        dot += (to_float(x[i]) - centre) * weighted;
        sum += weighted;
    }
    const float pull = block_sum(dot, scratch) * scale * scale * scale / dim;
    const float shift = mean ? block_sum(sum, scratch) * scale / dim : 0.0f;
    for (u32 i = threadIdx.x; i < dim; i += blockDim.x) {
        float value = to_float(grad[i]) * to_float(weight[i]) * scale - (to_float(x[i]) - centre) * pull - shift;
        if (residual) value += to_float(residual[row * dim + i]);
        store(&dx[i], value);
    }
}

// d loss / d weight = Σ over rows of (x − mean)·s·g; d loss / d bias = Σ g. A block handles 32
// columns, and each of its eight warps every eighth row, so reads are coalesced and no atomics are
// needed.
template <typename T>
__device__ void norm_weight_grad(T *d_weight, T *d_bias, const T *x, const float *mean, const float *rstd,
                                 const T *grad, u32 rows, u32 dim) {
    SHARED_MEMORY(parts);
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const u32 column = blockIdx.x * WARP + lane;
    float weight_sum = 0.0f, bias_sum = 0.0f;
    if (column < dim)
        for (u32 row = warp; row < rows; row += warps) {
            const u64 at = (u64)row * dim + column;
            const float value = to_float(grad[at]);
            weight_sum += (to_float(x[at]) - (mean ? mean[row] : 0.0f)) * rstd[row] * value;
            bias_sum += value;
        }
    float *bias_parts = parts + blockDim.x;
    parts[threadIdx.x] = weight_sum;
    bias_parts[threadIdx.x] = bias_sum;
    __syncthreads();
    if (warp > 0 || column >= dim) return;
    for (u32 other = 1; other < warps; ++other) {
        weight_sum += parts[other * WARP + lane];
        bias_sum += bias_parts[other * WARP + lane];
    }
    store(&d_weight[column], weight_sum);
    if (d_bias) store(&d_bias[column], bias_sum);
}

#define ENTRIES(T, suffix)                                                                                             \
    extern "C" __global__ void norm_forward_##suffix(T *y, float *mean, float *rstd, const T *x, const T *weight,      \
                                                     const T *bias, u32 dim, float epsilon) {                          \
        norm_forward(y, mean, rstd, x, weight, bias, dim, epsilon);                                                    \
    }                                                                                                                  \
    extern "C" __global__ void norm_backward_##suffix(T *dx, const T *x, const T *weight, const float *mean,           \
                                                      const float *rstd, const T *grad, const T *residual,             \
                                                      u32 dim) {                                                       \
        norm_backward(dx, x, weight, mean, rstd, grad, residual, dim);                                                 \
    }                                                                                                                  \
    extern "C" __global__ void norm_weight_grad_##suffix(T *d_weight, T *d_bias, const T *x, const float *mean,        \
                                                         const float *rstd, const T *grad, u32 rows, u32 dim) {        \
        norm_weight_grad(d_weight, d_bias, x, mean, rstd, grad, rows, dim);                                            \
    }

ENTRIES(float, f32)
ENTRIES(bf16, bf16)
#undef ENTRIES
