// log softmax(logits)[target], with the vocabulary in chunks of columns. Between chunks, each row
// keeps the highest logit, Σ exp(logit − highest) and the target's logit. The sum over chunks is
// f64.

// Running maximum and Σ exp(x − highest) over part of a row.
struct SumExp {
    float highest, sum;

    // Needs one exponential per element. −∞ adds nothing; NaN makes the sum NaN.
    __device__ void add(float x) {
        if (x > highest) {
            sum = sum * expf(highest - x) + 1.0f;
            highest = x;
        } else if (x != negative_infinity()) {
            sum += expf(x - highest);
        }
    }
};

__device__ inline SumExp merge(SumExp a, SumExp b) {
    const float highest = fmaxf(a.highest, b.highest);
    // Both sides are empty: −∞ − −∞ would be NaN.
    if (highest == negative_infinity()) return {highest, a.sum + b.sum};
    return {highest, a.sum * expf(a.highest - highest) + b.sum * expf(b.highest - highest)};
}

// Adds a chunk of logits, `[rows, columns]`, whose first column is column `first` of the
// vocabulary. The chunk with column 0 must come first and initialises the state. One block per row.
template <typename T>
__device__ void log_prob_chunk(float *highest, double *sum, float *target_logit, const T *logits, const u32 *targets,
                               u32 first, u32 columns) {
    SHARED_MEMORY(scratch);
    const u64 row = blockIdx.x;
    logits += row * columns;
    SumExp own = {negative_infinity(), 0.0f};
    for (u32 column = threadIdx.x; column < columns; column += blockDim.x) own.add(to_float(logits[column]));
    for (u32 offset = WARP / 2; offset > 0; offset /= 2)
        own = merge(own, {__shfl_xor_sync(0xffffffffu, own.highest, offset),
                         __shfl_xor_sync(0xffffffffu, own.sum, offset)});
    const u32 warp = threadIdx.x / WARP;
    if (threadIdx.x % WARP == 0) {
        scratch[2 * warp] = own.highest;
        scratch[2 * warp + 1] = own.sum;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (u32 other = 1; other < blockDim.x / WARP; ++other)
        own = merge(own, {scratch[2 * other], scratch[2 * other + 1]});
    const float before = first == 0 ? negative_infinity() : highest[row];
    const double sum_before = first == 0 ? 0.0 : sum[row];
    const float now = fmaxf(before, own.highest);
    highest[row] = now;
    const double kept = now == negative_infinity() ? sum_before : sum_before * exp((double)before - now);
    const double added = now == negative_infinity() ? own.sum : own.sum * exp((double)own.highest - now);
    sum[row] = kept + added;
    const u32 target = targets[row];
    if (target >= first && target - first < columns)
        target_logit[row] = to_float(logits[target - first]);
    else if (first == 0)
        target_logit[row] = negative_infinity();
}

// Computes log π(target) of each row, after all chunks.
extern "C" __global__ void log_prob_finish(double *log_probs, const float *highest, const double *sum,
                                           const float *target_logit, u32 rows) {
    const u64 row = first_element();
    if (row < rows) log_probs[row] = (double)target_logit[row] - highest[row] - log(sum[row]);
}

// Computes d loss / d logits of a chunk: scale·(onehot(target) − softmax). `scale` is d loss / d
// log π of the row; null means 1. `d_logits` may alias `logits`.
template <typename T>
__device__ void log_prob_backward(T *d_logits, const T *logits, const float *highest, const double *sum,
                                  const u32 *targets, const float *scale, u32 first, u32 columns) {
    const u64 row = blockIdx.x;
    const float peak = highest[row], inverse = (float)(1.0 / sum[row]), factor = scale ? scale[row] : 1.0f;
    const u32 target = targets[row];
    for (u32 column = blockIdx.y * blockDim.x + threadIdx.x; column < columns; column += gridDim.y * blockDim.x) {
        const float share = expf(to_float(logits[row * columns + column]) - peak) * inverse;
        // Not `first + column`, which may overflow.
        const float here = target >= first && target - first == column ? 1.0f : 0.0f;
        store(&d_logits[row * columns + column], factor * (here - share));
    }
}

#define ENTRIES(T, suffix)                                                                                             \
    extern "C" __global__ void log_prob_chunk_##suffix(float *highest, double *sum, float *target_logit,               \
                                                       const T *logits, const u32 *targets, u32 first, u32 columns) {  \
        log_prob_chunk(highest, sum, target_logit, logits, targets, first, columns);                                   \
    }                                                                                                                  \
    extern "C" __global__ void log_prob_backward_##suffix(T *d_logits, const T *logits, const float *highest,          \
                                                          const double *sum, const u32 *targets, const float *scale,   \
                                                          u32 first, u32 columns) {                                    \
        log_prob_backward(d_logits, logits, highest, sum, targets, scale, first, columns);                             \
    }

ENTRIES(float, f32)
ENTRIES(bf16, bf16)
#undef ENTRIES
