// Half precision of CUDA, as far as candle's kernels use it. Arithmetic is that of f32, rounded once.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }

struct __half {
    unsigned short bits;
    __half() = default;
    template <typename N, typename = std::enable_if_t<std::is_arithmetic_v<N>>>
    __half(N value) {
        const _Float16 rounded = static_cast<_Float16>(static_cast<float>(value));
        std::memcpy(&bits, &rounded, 2);
    }
    operator float() const {
        _Float16 value;
        std::memcpy(&value, &bits, 2);
        return static_cast<float>(value);
    }
};
typedef __half half;

#define EMULATED_OPERATORS(T)                                                                  \
    inline T operator+(T a, T b) { return T(float(a) + float(b)); }                            \
    inline T operator-(T a, T b) { return T(float(a) - float(b)); }                            \
    inline T operator*(T a, T b) { return T(float(a) * float(b)); }                            \
    inline T operator/(T a, T b) { return T(float(a) / float(b)); }                            \
    inline T operator-(T a) { return T(-float(a)); }                                           \
    inline T &operator+=(T &a, T b) { return a = a + b; }                                      \
    inline T &operator*=(T &a, T b) { return a = a * b; }                                      \
    inline bool operator==(T a, T b) { return float(a) == float(b); }                          \
    inline bool operator!=(T a, T b) { return float(a) != float(b); }                          \
    inline bool operator<(T a, T b) { return float(a) < float(b); }                            \
    inline bool operator<=(T a, T b) { return float(a) <= float(b); }                          \
    inline bool operator>(T a, T b) { return float(a) > float(b); }                            \
    inline bool operator>=(T a, T b) { return float(a) >= float(b); }                          \
    inline bool __hisnan(T a) { return std::isnan(float(a)); }                                 \
    inline T hsqrt(T a) { return T(std::sqrt(float(a))); }                                     \
    inline T hcos(T a) { return T(std::cos(float(a))); }                                       \
    inline T hsin(T a) { return T(std::sin(float(a))); }                                       \
    inline T hlog(T a) { return T(std::log(float(a))); }                                       \
    inline T hexp(T a) { return T(std::exp(float(a))); }                                       \
    inline T __habs(T a) { return T(std::fabs(float(a))); }                                    \
    inline T __hmax_nan(T a, T b) { return __hisnan(a) || (!__hisnan(b) && a > b) ? a : b; }   \
    inline T __hmin_nan(T a, T b) { return __hisnan(a) || (!__hisnan(b) && a < b) ? a : b; }

EMULATED_OPERATORS(__half)

inline float __half2float(__half a) { return a; }
inline __half __float2half(float a) { return a; }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }
inline __half __ushort_as_half(unsigned short bits) {
    __half a;
    a.bits = bits;
    return a;
}

struct half2 {
    __half x, y;
};
typedef half2 __half2;
inline half2 operator+(half2 a, half2 b) { return {a.x + b.x, a.y + b.y}; }
inline half2 __hmul2(half2 a, half2 b) { return {a.x * b.x, a.y * b.y}; }
inline half2 __hadd2(half2 a, half2 b) { return {a.x + b.x, a.y + b.y}; }
inline half2 __hsub2(half2 a, half2 b) { return {a.x - b.x, a.y - b.y}; }
inline float2 __half22float2(half2 a) { return {a.x, a.y}; }
inline __half __low2half(half2 a) { return a.x; }
inline __half __high2half(half2 a) { return a.y; }
inline float __low2float(half2 a) { return a.x; }
inline float __high2float(half2 a) { return a.y; }
