// CUDA built-ins for a C++17 compiler, to run kernels on a CPU.
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

#include <setjmp.h>
#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

// A tool that lists the entries defines this mark of an entry.
#ifndef __global__
#define __global__
#endif
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
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
    std::uint64_t exchanged[2] = {0, 0};
    unsigned exchanges = 0;
    // Set once the fibre has a context. A fibre lives as long as the program and runs one thread of
    // each block.
    bool started = false;
    // Point at which the fibre was left; faster to return to than a context, which saves signals.
    jmp_buf left;
};

static std::vector<Fibre> fibres;
// Number of the running fibre, which is that of its thread in the block.
static unsigned running;
static const std::function<void()> *body;

#ifdef __SANITIZE_ADDRESS__
static ucontext_t scheduler;
static const void *scheduler_stack;
static std::size_t scheduler_bytes;
#else
static jmp_buf scheduler_left;
#endif

inline void run_fibre();

inline void start(Fibre &fibre) {
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fibre.context, run_fibre, 0);
    fibre.started = true;
}

// The sanitizer must be told about stack switches, and knows those of contexts only.
inline void enter(Fibre &fibre) {
    const bool first = !fibre.started;
    if (first) start(fibre);
#ifdef __SANITIZE_ADDRESS__
    void *own = nullptr;
    __sanitizer_start_switch_fiber(&own, fibre.stack.get(), STACK_BYTES);
    swapcontext(&scheduler, &fibre.context);
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#else
    if (_setjmp(scheduler_left) != 0) return;
    if (first) setcontext(&fibre.context);
    _longjmp(fibre.left, 1);
#endif
}

inline void leave(Wait wait, int line) {
    Fibre &fibre = fibres[running];
    fibre.wait = wait;
    fibre.line = line;
#ifdef __SANITIZE_ADDRESS__
    void *own = nullptr;
    __sanitizer_start_switch_fiber(&own, scheduler_stack, scheduler_bytes);
    swapcontext(&fibre.context, &scheduler);
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#else
    if (_setjmp(fibre.left) == 0) _longjmp(scheduler_left, 1);
#endif
}

inline void run_fibre() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_bytes);
#endif
    for (;;) {
        (*body)();
        leave(Wait::done, 0);
    }
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

inline uint3 thread_of(unsigned index) {
    return {index % blockDim.x, index / blockDim.x % blockDim.y, index / blockDim.x / blockDim.y};
}

// Runs all threads of the block to their end. A warp runs to the next block barrier before another
// starts: as far ahead as is possible on a GPU.
inline void run_block(Schedule schedule) {
    const unsigned threads = blockDim.x * blockDim.y * blockDim.z, warps = (threads + WARP_SIZE - 1) / WARP_SIZE;
    for (unsigned i = 0; i < threads; ++i) {
        fibres[i].wait = Wait::none;
        fibres[i].exchanges = 0;
    }
    do {
        for (unsigned w = 0; w < warps; ++w) {
            const unsigned first = turn(w, warps, schedule) * WARP_SIZE;
            const unsigned lanes = min(WARP_SIZE, threads - first);
            do {
                for (unsigned lane = 0; lane < lanes; ++lane) {
                    running = first + turn(lane, lanes, schedule);
                    if (fibres[running].wait != Wait::none) continue;
                    threadIdx = thread_of(running);
                    enter(fibres[running]);
                }
            } while (release(first, first + lanes, Wait::warp));
        }
    } while (release(0, threads, Wait::block));
    for (unsigned i = 0; i < threads; ++i) {
        if (fibres[i].wait == Wait::done) continue;
        threadIdx = thread_of(i);
        fail("not all threads reach a barrier", fibres[i].line);
    }
}

// Runs the kernel `call` on every block of the grid.
inline void run_grid(const std::function<void()> &call, std::size_t shared_bytes, Schedule schedule) {
    const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    if (threads == 0) fail("a block without threads", 0);
    body = &call;
    // Fibres keep pointers into their stacks, so they must not move.
    if (fibres.size() < threads) fibres = std::vector<Fibre>(threads);
    const std::size_t blocks = std::size_t(gridDim.x) * gridDim.y * gridDim.z;
    for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t block = schedule == Schedule::ascending ? b : blocks - 1 - b;
        blockIdx = {unsigned(block % gridDim.x), unsigned(block / gridDim.x % gridDim.y),
                    unsigned(block / gridDim.x / gridDim.y)};
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
T __shfl_xor_sync(unsigned mask, T x, unsigned offset, unsigned width = shim::WARP_SIZE) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t));
    const unsigned self = shim::running, other = self ^ offset;
    if (mask != 0xffffffffu || width != shim::WARP_SIZE || other >= blockDim.x * blockDim.y * blockDim.z)
        shim::fail("a shuffle needs the whole warp", 0);
    const unsigned slot = shim::fibres[self].exchanges++ % 2;
    std::memcpy(&shim::fibres[self].exchanged[slot], &x, sizeof(T));
    shim::warp_barrier(0);
    std::memcpy(&x, &shim::fibres[other].exchanged[slot], sizeof(T));
    return x;
}
