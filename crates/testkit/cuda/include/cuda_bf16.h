// bfloat16 of CUDA, as far as candle's kernels use it. Arithmetic is that of f32, rounded once to
// nearest, ties to even.
#pragma once

#include "cuda_fp16.h"

struct __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    template <typename N, typename = std::enable_if_t<std::is_arithmetic_v<N>>>
    __nv_bfloat16(N value) {
        const float x = static_cast<float>(value);
        std::uint32_t all;
        std::memcpy(&all, &x, 4);
        const bool nan = (all & 0x7fffffffu) > 0x7f800000u;
        bits = static_cast<unsigned short>(nan ? all >> 16 | 0x40u : (all + 0x7fffu + (all >> 16 & 1u)) >> 16);
    }
    operator float() const {
        const std::uint32_t all = static_cast<std::uint32_t>(bits) << 16;
        float x;
        std::memcpy(&x, &all, 4);
        return x;
    }
};
typedef __nv_bfloat16 nv_bfloat16;

EMULATED_OPERATORS(__nv_bfloat16)

inline float __bfloat162float(__nv_bfloat16 a) { return a; }
inline __nv_bfloat16 __float2bfloat16(float a) { return a; }
inline __nv_bfloat16 __float2bfloat16_rn(float a) { return a; }

struct __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
inline __nv_bfloat162 __hadd2(__nv_bfloat162 a, __nv_bfloat162 b) { return {a.x + b.x, a.y + b.y}; }
inline __nv_bfloat162 __hmul2(__nv_bfloat162 a, __nv_bfloat162 b) { return {a.x * b.x, a.y * b.y}; }
