// Table of kernels: each source of kernels, compiled after this file, registers its entries.
//
// A launch passes pointers to arguments without their sizes, so an entry reads them by the types of
// its parameters.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <setjmp.h>
#include <ucontext.h>

#include "machine.h"

// Each source has its own built-in variables, so its functions must be its own, too.
namespace {
#include "../../kernels/cuda/shim.h"
}

namespace machine {

// How the threads of a block run.
enum class Threads {
    // One after the other, to their end: for kernels without barriers.
    independent,
    // As fibres that meet at barriers.
    fibres,
};

template <typename T>
void check_argument(const T &argument, const Launch &launch) {
    if constexpr (std::is_pointer_v<T>) {
        if (argument != nullptr) check_use(argument, launch.stream, launch.entry);
    }
}

template <Threads threads, auto kernel, typename... A, std::size_t... I>
void run_entry(const Launch &launch, void **arguments, std::index_sequence<I...>) {
    const std::tuple<std::remove_const_t<A>...> values(*static_cast<A *>(arguments[I])...);
    (check_argument(std::get<I>(values), launch), ...);
    if (!computes()) return;
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    if constexpr (threads == Threads::fibres) {
        shim::run_grid([&] { kernel(std::get<I>(values)...); }, launch.shared_bytes, shim::Schedule::ascending);
        return;
    }
    const unsigned count = blockDim.x * blockDim.y * blockDim.z;
    shim::running = unsigned(-1);
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
                for (unsigned index = 0; index < count; ++index) {
                    threadIdx = shim::thread_of(index);
                    kernel(std::get<I>(values)...);
                }
}

template <Threads threads, auto kernel, typename... A>
void add_entry(const char *name, void (*)(A...)) {
    add(name, [](const Launch &launch, void **arguments) {
        run_entry<threads, kernel, A...>(launch, arguments, std::index_sequence_for<A...>());
    });
}

}  // namespace machine

#define ENTRY(threads, name) machine::add_entry<machine::Threads::threads, name>(#name, name)
