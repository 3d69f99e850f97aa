// CUDA built-ins for a C++17 compiler, to test the kernels on a CPU.
//
// Blocks run one at a time. The threads of a block are fibres: each runs until its next barrier, in
// ascending or in descending order. Without a necessary barrier, one of the two orders reads a
// value too early or too late and gives other bits. Shared memory starts as NaNs. A barrier that
// not all threads reach ends the program.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __launch_bounds__(threads, blocks)
#define __syncthreads() shim::block_barrier(__LINE__)
#define __syncwarp() shim::warp_barrier(__LINE__)
#define SHARED_MEMORY(name) float *const name = shim::shared_memory

struct uint3 {
    unsigned x, y, z;
};

// CUDA built-in variables, set before a fibre resumes.
static uint3 threadIdx, blockIdx, blockDim, gridDim;

using std::max;
using std::min;

inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }

namespace shim {

static float *shared_memory;

[[noreturn]] inline void fail(const char *what, int line) {
    std::fprintf(stderr, "%s (block %u, %u; thread %u; line %d)\n", what, blockIdx.x, blockIdx.y, threadIdx.x, line);
    std::exit(1);
}

enum class Wait { none, block, warp, done };

const unsigned WARP_SIZE = 32;
const std::size_t STACK_BYTES = 1 << 16;

struct Fibre {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    Wait wait = Wait::none;
    int line = 0;
    // Two alternating slots: a thread that is one exchange ahead does not overwrite a value that
    // others still read.
    double exchanged[2] = {0, 0};
    unsigned exchanges = 0;
};

static std::vector<Fibre> fibres;
static ucontext_t scheduler;
static const std::function<void()> *body;

// The sanitizer must be told about stack switches.
inline void enter(Fibre *fibre) {
#ifdef __SANITIZE_ADDRESS__
    void *own = nullptr;
    __sanitizer_start_switch_fiber(&own, fibre->stack.get(), STACK_BYTES);
    swapcontext(&scheduler, &fibre->context);
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#else
    swapcontext(&scheduler, &fibre->context);
#endif
}

#ifdef __SANITIZE_ADDRESS__
static const void *scheduler_stack;
static std::size_t scheduler_bytes;
#endif

inline void leave(Wait wait, int line) {
    Fibre &fibre = fibres[threadIdx.x];
    fibre.wait = wait;
    fibre.line = line;
#ifdef __SANITIZE_ADDRESS__
    void *own = nullptr;
    __sanitizer_start_switch_fiber(wait == Wait::done ? nullptr : &own, scheduler_stack, scheduler_bytes);
    swapcontext(&fibre.context, &scheduler);
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#else
    swapcontext(&fibre.context, &scheduler);
#endif
}

inline void run_fibre() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_bytes);
#endif
    (*body)();
    leave(Wait::done, 0);
}

inline void block_barrier(int line) { leave(Wait::block, line); }

inline void warp_barrier(int line) { leave(Wait::warp, line); }

// Releases fibres first…last if all of them wait at the same kind of barrier.
inline bool release(std::size_t first, std::size_t last, Wait wait) {
    for (std::size_t i = first; i < last; ++i)
        if (fibres[i].wait != wait) return false;
    for (std::size_t i = first; i < last; ++i) {
        if (fibres[i].line != fibres[first].line) fail("threads wait at different barriers", fibres[i].line);
        fibres[i].wait = Wait::none;
    }
    return true;
}

// Order in which blocks, warps and threads run.
enum class Schedule { ascending, descending };

inline unsigned turn(unsigned index, unsigned count, Schedule schedule) {
    return schedule == Schedule::ascending ? index : count - 1 - index;
}

// Runs all threads of the block to their end. A warp runs to the next block barrier before another
// starts: as far ahead as is possible on a GPU.
inline void run_block(Schedule schedule) {
    const unsigned threads = blockDim.x, warps = threads / WARP_SIZE;
    for (unsigned i = 0; i < threads; ++i) {
        Fibre &fibre = fibres[i];
        fibre.wait = Wait::none;
        fibre.exchanges = 0;
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.get();
        fibre.context.uc_stack.ss_size = STACK_BYTES;
        makecontext(&fibre.context, run_fibre, 0);
    }
    do {
        for (unsigned w = 0; w < warps; ++w) {
            const unsigned first = turn(w, warps, schedule) * WARP_SIZE;
            do {
                for (unsigned lane = 0; lane < WARP_SIZE; ++lane) {
                    const unsigned i = first + turn(lane, WARP_SIZE, schedule);
                    if (fibres[i].wait != Wait::none) continue;
                    threadIdx = {i, 0, 0};
                    enter(&fibres[i]);
                }
            } while (release(first, first + WARP_SIZE, Wait::warp));
        }
    } while (release(0, threads, Wait::block));
    for (unsigned i = 0; i < threads; ++i) {
        if (fibres[i].wait == Wait::done) continue;
        threadIdx.x = i;
        fail("not all threads reach a barrier", fibres[i].line);
    }
}

// Runs the kernel `call` on every block of the grid.
inline void run_grid(const std::function<void()> &call, std::size_t shared_bytes, Schedule schedule) {
    if (blockDim.x == 0 || blockDim.x % WARP_SIZE != 0) fail("the block size is not a multiple of the warp size", 0);
    body = &call;
    if (fibres.size() < blockDim.x) fibres = std::vector<Fibre>(blockDim.x);
    const unsigned blocks = gridDim.x * gridDim.y;
    for (unsigned b = 0; b < blocks; ++b) {
        const unsigned block = turn(b, blocks, schedule);
        blockIdx = {block % gridDim.x, block / gridDim.x, 0};
        // Exactly the requested size, so that the sanitizer detects accesses beyond it. Bytes of
        // 0xff are NaNs.
        std::unique_ptr<char[]> shared(new char[shared_bytes]);
        std::memset(shared.get(), 0xff, shared_bytes);
        shared_memory = reinterpret_cast<float *>(shared.get());
        run_block(schedule);
    }
}

}  // namespace shim

template <typename T>
T __shfl_xor_sync(unsigned mask, T x, unsigned offset) {
    if (mask != 0xffffffffu) shim::fail("a shuffle needs the whole warp", 0);
    const unsigned self = threadIdx.x;
    const unsigned slot = shim::fibres[self].exchanges++ % 2;
    shim::fibres[self].exchanged[slot] = x;
    shim::warp_barrier(0);
    return static_cast<T>(shim::fibres[self ^ offset].exchanged[slot]);
}
