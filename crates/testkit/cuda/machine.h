// The emulated machine: its memory, its kernels, and the record of its use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace machine {

// Work of a stream that runs on a thread of its own: a collective operation. All other work has
// ended when its call returns.
struct Work;

struct Stream {
    int number;
    // Counts allocations.
    std::size_t clock = 0;
    // Clocks of other streams, up to which it has waited for them.
    std::map<const Stream *, std::size_t> seen;
    std::shared_ptr<Work> pending;
};

// Returns true if the work has ended; null always has.
bool has_ended(const std::shared_ptr<Work> &work);

// Waits for the work's end. Callers must not hold the machine.
void wait_for(const std::shared_ptr<Work> &work);

// Waits until a stream has no pending work. Callers must not hold the machine.
void settle(Stream *stream);

// Runs work on a thread of its own. Until its end, its buffers must not be freed.
std::shared_ptr<Work> start_work(Stream *stream, const std::vector<const void *> &buffers, std::function<void()> work);

struct Launch {
    const char *entry;
    unsigned grid[3], block[3], shared_bytes;
    Stream *stream;
};

typedef void (*Run)(const Launch &launch, void **arguments);

// False if kernels and products only count (EMULATED_CUDA_COUNT).
bool computes();

// Adds a kernel to the table.
void add(const char *name, Run run);

struct Entry;

// Returns a kernel of the table, or null.
const Entry *find(const char *name);

void launch(const Entry &entry, const Launch &launch, void **arguments);

// Ends the program unless the pointer is in an allocation that this stream may use.
void check_use(const void *pointer, Stream *stream, const char *what);

// Ends the program unless all bytes are in one allocation that this stream may use: one of its own,
// or one of a stream that it has waited for.
void check_range(const void *pointer, std::size_t bytes, Stream *stream, const char *what);

// Allocates device memory of 0xff bytes, which are NaNs. Null if the device is full.
void *allocate(std::size_t bytes, Stream *stream);

void release(void *pointer, Stream *stream);

struct Memory {
    std::size_t total, used, peak;
};
Memory memory();

// Forgets the peak and starts a section of the record. Programs measure a part of their work by
// resetting the peak before it and reading it afterwards.
void reset_peak();

void start_section();

[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Counters of a section of the record.
enum class Count {
    launches,
    products,
    uploads,
    uploaded_bytes,
    reads,
    read_bytes,
    copies,
    fills,
    synchronisations,
    allocations,
    events,
    modules,
    all_reduces,
    reduce_scatters,
    all_gathers,
    // Launches and products while a collective operation was pending.
    meanwhile,
    finalised,
    aborted,
};
void count(Count what, std::size_t by = 1);

// Counts a matrix product of these types and sizes.
void count_product(const char *types, int m, int n, int k, int batch);

// Counts a collective operation by its number in the order of `Count`.
void count_collective(int kind);

// Calls come from any thread. Each holds the machine while it runs.
struct Held {
    Held();
    ~Held();
};

}  // namespace machine
