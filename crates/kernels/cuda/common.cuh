// What all kernels share: number types, and sums over a block. Every source is compiled after this text: by NVRTC for
// a GPU, and after shim.h by a C++17 compiler for the tests. No header is included, so that none has to be found.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// Shared memory is always dynamic: the launcher states its bytes, and the tests find what goes beyond them.
#ifndef SHARED_MEMORY
#define SHARED_MEMORY(name) extern __shared__ float name[]
#endif

const u32 WARP = 32;

// The upper half of an f32. Own conversions, since NVRTC comes without cuda_bf16.h.
struct bf16 {
    u16 bits;
};

__device__ inline float wide(float x) { return x; }

__device__ inline float wide(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

__device__ inline void store(float *to, float x) { *to = x; }

// Rounds to nearest, ties to even; NaN stays NaN.
__device__ inline void store(bf16 *to, float x) {
    const u32 bits = __float_as_uint(x);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to->bits = (u16)(nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

__device__ inline float minus_infinity() { return __uint_as_float(0xff800000u); }

__device__ inline float warp_sum(float x) {
    for (u32 offset = WARP / 2; offset > 0; offset /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

__device__ inline float warp_max(float x) {
    for (u32 offset = WARP / 2; offset > 0; offset /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

// The sum over all threads of the block, the same in each of them. `scratch` holds a float for each warp. Always in the
// same order, so the same inputs give the same bits.
__device__ inline float block_sum(float x, float *scratch) {
    const u32 warps = blockDim.x / WARP;
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = x;
    __syncthreads();
    float sum = 0.0f;
    for (u32 warp = 0; warp < warps; ++warp) sum += scratch[warp];
    // The next sum writes where this one is still being read.
    __syncthreads();
    return sum;
}

// Index of the first element that a thread works on, and the distance to its next one: neighbouring threads take
// neighbouring elements.
__device__ inline u64 first_element() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ inline u64 element_step() { return (u64)gridDim.x * blockDim.x; }
