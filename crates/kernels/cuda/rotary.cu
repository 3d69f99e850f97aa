// Rotary position embeddings, one thread per element. The two elements of a pair are adjacent or
// half a head apart, so the second read comes from the cache.
//
// cos and sin are f32 for all types of x: rounded to bf16, neighbouring positions would have equal
// angles. `sign` −1 rotates back, which is the backward pass.

template <typename T>
__device__ void rotary(T *y, const T *x, const float *cos, const float *sin, u32 width, u32 head_dim, u32 half,
                       u32 interleaved, float sign) {
    const u64 row = blockIdx.x;
    const u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= width) return;
    x += row * width;
    y += row * width;
    const u32 dimension = column % head_dim;
    if (dimension >= 2 * half) {
        y[column] = x[column];
        return;
    }
    const bool first = interleaved ? dimension % 2 == 0 : dimension < half;
    const u32 distance = interleaved ? 1 : half;
    const u32 pair = interleaved ? dimension / 2 : first ? dimension : dimension - half;
    const float c = cos[row * half + pair], s = sign * sin[row * half + pair];
    const float own = to_float(x[column]), other = to_float(x[first ? column + distance : column - distance]);
    store(&y[column], first ? own * c - other * s : other * s + own * c);
}

#define ENTRIES(T, suffix)                                                                                             \
    extern "C" __global__ void rotary_##suffix(T *y, const T *x, const float *cos, const float *sin, u32 width,        \
                                               u32 head_dim, u32 half, u32 interleaved, float sign) {                  \
        rotary(y, x, cos, sin, width, head_dim, half, interleaved, sign);                                              \
    }

ENTRIES(float, f32)
ENTRIES(bf16, bf16)
#undef ENTRIES
