// Common declarations of all kernels: element types and reductions over a block. This text precedes
// every source: NVRTC compiles both for a GPU; in the tests, a C++17 compiler compiles both after
// shim.h. It includes no header, so NVRTC needs no include path.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// All shared memory is dynamic: the launcher gives its size, and the tests detect accesses beyond
// it.
#ifndef SHARED_MEMORY
#define SHARED_MEMORY(name) extern __shared__ float name[]
#endif

const u32 WARP = 32;

// bfloat16: the upper half of an f32. Converted here, because NVRTC does not ship cuda_bf16.h.
struct bf16 {
    u16 bits;
};

__device__ inline float to_float(float x) { return x; }

__device__ inline float to_float(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

__device__ inline void store(float *to, float x) { *to = x; }

// Rounds to nearest, ties to even; NaN stays NaN.
__device__ inline void store(bf16 *to, float x) {
    const u32 bits = __float_as_uint(x);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to->bits = (u16)(nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

__device__ inline float negative_infinity() { return __uint_as_float(0xff800000u); }

template <typename T>
__device__ inline T warp_sum(T x) {
    for (u32 offset = WARP / 2; offset > 0; offset /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

__device__ inline float warp_max(float x) {
    for (u32 offset = WARP / 2; offset > 0; offset /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

// Returns the sum over all threads of the block, in every thread. `scratch` holds one float per
// warp. The order of addition is fixed, so the same inputs give the same bits.
__device__ inline float block_sum(float x, float *scratch) {
    const u32 warps = blockDim.x / WARP;
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = x;
    __syncthreads();
    float sum = 0.0f;
    for (u32 warp = 0; warp < warps; ++warp) sum += scratch[warp];
    // The next sum overwrites `scratch`, which other threads may still read.
    __syncthreads();
    return sum;
}

// Grid-stride loop: a thread's first element and the step to its next. Neighbouring threads process
// neighbouring elements.
__device__ inline u64 first_element() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ inline u64 element_step() { return (u64)gridDim.x * blockDim.x; }
