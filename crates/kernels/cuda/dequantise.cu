// Dequantisation of GGUF blocks, one thread per element: writes are coalesced, and the bytes of a
// block come from the cache for all threads but the first. Products are rounded separately (no
// FMA), so the results have the CPU's bits.

__device__ inline float half_at(const u8 *bytes) {
    const u32 bits = bytes[0] | (u32)bytes[1] << 8, exponent = bits >> 10 & 31u, fraction = bits & 1023u;
    // Subnormals are fraction·2^−24. Otherwise the exponent bias changes from 15 to 127.
    const float size = exponent == 0    ? fraction * 5.9604644775390625e-8f
                       : exponent == 31 ? __uint_as_float(0x7f800000u | fraction << 13)
                                        : __uint_as_float((exponent + 112u) << 23 | fraction << 13);
    return bits >> 15 ? -size : size;
}

// f16 scale, 32 × i8.
struct Q8_0 {
    static const u32 COUNT = 32, BYTES = 34;
    __device__ static float at(const u8 *block, u32 i) { return __fmul_rn((signed char)block[2 + i], half_at(block)); }
};

// f16 scale, 32 × 4 bits with an offset of −8. The low bits hold the first half of the elements.
struct Q4_0 {
    static const u32 COUNT = 32, BYTES = 18;
    __device__ static float at(const u8 *block, u32 i) {
        const int q = (block[2 + i % 16] >> (i < 16 ? 0 : 4) & 15) - 8;
        return __fmul_rn((float)q, half_at(block));
    }
};

// f16 scale and f16 minimum, 8 six-bit scales and 8 six-bit minimums of groups in 12 bytes, 256 × 4
// bits.
struct Q4_K {
    static const u32 COUNT = 256, BYTES = 144;
    __device__ static float at(const u8 *block, u32 i) {
        const u8 *scales = block + 4;
        const u32 group = i / 32;
        u32 scale, minimum;
        if (group < 4) {
            scale = scales[group] & 63u;
            minimum = scales[group + 4] & 63u;
        } else {
            scale = (scales[group + 4] & 15u) | (u32)(scales[group - 4] >> 6) << 4;
            minimum = (u32)(scales[group + 4] >> 4) | (u32)(scales[group] >> 6) << 4;
        }
        const u32 q = block[16 + i / 64 * 32 + i % 32] >> (group % 2 * 4) & 15u;
        const float low = __fmul_rn(half_at(block + 2), (float)minimum);
        return __fadd_rn(__fmul_rn(__fmul_rn(half_at(block), (float)scale), (float)q), -low);
    }
};

// 256 × 6 bits with an offset of −32: all low four bits, then all high two bits; 16 × i8 scales of
// 16 elements each; f16 scale.
struct Q6_K {
    static const u32 COUNT = 256, BYTES = 210;
    __device__ static float at(const u8 *block, u32 i) {
        const u32 half = i / 128, quarter = i % 128 / 32, lane = i % 32;
        const u32 low = block[64 * half + 32 * (quarter % 2) + lane] >> (quarter / 2 * 4) & 15u;
        const u32 high = block[128 + 32 * half + lane] >> (2 * quarter) & 3u;
        const int q = (int)(low | high << 4) - 32;
        const float scale = __fmul_rn(half_at(block + 208), (signed char)block[192 + i / 16]);
        return __fmul_rn(scale, (float)q);
    }
};

template <typename Kind, typename T>
__device__ void dequantise(T *y, const u8 *blocks, u64 count) {
    for (u64 i = first_element(); i < count; i += element_step())
        store(&y[i], Kind::at(blocks + i / Kind::COUNT * Kind::BYTES, (u32)(i % Kind::COUNT)));
}

#define ENTRIES(T, suffix)                                                                                             \
    extern "C" __global__ void dequantise_q8_0_##suffix(T *y, const u8 *blocks, u64 count) {                           \
        dequantise<Q8_0>(y, blocks, count);                                                                            \
    }                                                                                                                  \
    extern "C" __global__ void dequantise_q4_0_##suffix(T *y, const u8 *blocks, u64 count) {                           \
        dequantise<Q4_0>(y, blocks, count);                                                                            \
    }                                                                                                                  \
    extern "C" __global__ void dequantise_q4_k_##suffix(T *y, const u8 *blocks, u64 count) {                           \
        dequantise<Q4_K>(y, blocks, count);                                                                            \
    }                                                                                                                  \
    extern "C" __global__ void dequantise_q6_k_##suffix(T *y, const u8 *blocks, u64 count) {                           \
        dequantise<Q6_K>(y, blocks, count);                                                                            \
    }

ENTRIES(float, f32)
ENTRIES(bf16, bf16)
#undef ENTRIES
