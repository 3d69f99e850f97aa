// What candle's kernels expect of CUDA. Included before each of its sources.
#pragma once

#include "entries.h"

#include <cassert>
#include <cuda/std/limits>
#include <math.h>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_fp8.h"

#define __CUDA_ARCH__ 900
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define __forceinline__ inline
#define __host__

using std::isnan;
using std::signbit;

inline float normcdff(float x) { return 0.5f * std::erfc(-x * 0.70710678f); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

template <typename To, typename From>
To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}
inline float __int_as_float(int x) { return same_bits<float>(x); }
inline int __float_as_int(float x) { return same_bits<int>(x); }
inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }

// Threads run one at a time, so every operation is atomic.
template <typename T, typename U>
T atomicAdd(T *to, U added) {
    const T x = static_cast<T>(added);
    const T old = *to;
    *to = old + x;
    return old;
}
template <typename T, typename U>
T atomicMin(T *to, U added) {
    const T x = static_cast<T>(added);
    const T old = *to;
    *to = x < old ? x : old;
    return old;
}
template <typename T, typename U>
T atomicMax(T *to, U added) {
    const T x = static_cast<T>(added);
    const T old = *to;
    *to = x > old ? x : old;
    return old;
}
template <typename T>
T atomicCAS(T *to, T expected, T x) {
    const T old = *to;
    if (old == expected) *to = x;
    return old;
}

namespace {
inline unsigned min(unsigned a, int b) { return std::min(a, static_cast<unsigned>(b)); }
}

inline int __dp4a(int a, int b, int sum) {
    std::int8_t left[4], right[4];
    std::memcpy(left, &a, 4);
    std::memcpy(right, &b, 4);
    for (int i = 0; i < 4; ++i) sum += left[i] * right[i];
    return sum;
}
