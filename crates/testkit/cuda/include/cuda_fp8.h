// Eight-bit floats exist for the compiler only: Prospect has no tensors of them.
#pragma once

#include <cstdlib>

#include "cuda_fp16.h"

struct __nv_fp8_e4m3 {
    unsigned char __x;
    __nv_fp8_e4m3() = default;
    explicit __nv_fp8_e4m3(float) { std::abort(); }
};
enum { __NV_E4M3 };
inline __half __nv_cvt_fp8_to_halfraw(unsigned char, int) { std::abort(); }
