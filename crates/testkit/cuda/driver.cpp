// Driver API: libcuda, as far as candle and Prospect call it.
#include "machine.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

using machine::Count;
using machine::Held;

namespace {

// CUresult
const int SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500, NOT_READY = 600;

machine::Stream default_stream{0};
std::vector<machine::Stream *> streams;
int context, pool;

// Place in a stream.
struct Event {
    const machine::Stream *stream = nullptr;
    std::size_t clock = 0;
    std::shared_ptr<machine::Work> work;
};

struct Module {
    std::string text;
};

machine::Stream *of(void *stream) { return stream ? static_cast<machine::Stream *>(stream) : &default_stream; }

int upload(std::uintptr_t to, const void *from, std::size_t bytes, machine::Stream *stream) {
    machine::settle(stream);
    Held held;
    machine::count(Count::uploads);
    machine::count(Count::uploaded_bytes, bytes);
    machine::check_range(reinterpret_cast<void *>(to), bytes, stream, "an upload");
    if (machine::computes()) std::memcpy(reinterpret_cast<void *>(to), from, bytes);
    return SUCCESS;
}

int read_back(void *to, std::uintptr_t from, std::size_t bytes, machine::Stream *stream) {
    machine::settle(stream);
    Held held;
    machine::count(Count::reads);
    machine::count(Count::read_bytes, bytes);
    machine::check_range(reinterpret_cast<void *>(from), bytes, stream, "a read");
    if (machine::computes()) std::memcpy(to, reinterpret_cast<void *>(from), bytes);
    else std::memset(to, 0, bytes);
    return SUCCESS;
}

int copy(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, machine::Stream *stream) {
    machine::settle(stream);
    Held held;
    machine::count(Count::copies);
    machine::check_range(reinterpret_cast<void *>(to), bytes, stream, "a copy");
    machine::check_range(reinterpret_cast<void *>(from), bytes, stream, "a copy");
    if (machine::computes()) std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes);
    return SUCCESS;
}

int fill(std::uintptr_t to, unsigned char value, std::size_t bytes, machine::Stream *stream) {
    machine::settle(stream);
    Held held;
    machine::count(Count::fills);
    machine::check_range(reinterpret_cast<void *>(to), bytes, stream, "a fill");
    if (machine::computes()) std::memset(reinterpret_cast<void *>(to), value, bytes);
    return SUCCESS;
}

int allocate(std::uintptr_t *pointer, std::size_t bytes, machine::Stream *stream) {
    Held held;
    if (bytes == 0) return INVALID_VALUE;
    void *allocated = machine::allocate(bytes, stream);
    *pointer = reinterpret_cast<std::uintptr_t>(allocated);
    return allocated ? SUCCESS : OUT_OF_MEMORY;
}

int synchronise(const std::shared_ptr<machine::Work> &work) {
    machine::wait_for(work);
    Held held;
    machine::count(Count::synchronisations);
    return SUCCESS;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return SUCCESS; }
// NVRTC looks for private tables of the driver, and goes on without them.
int cuGetExportTable(const void **, const void *) { return NOT_FOUND; }
int cuDriverGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}
int cuGetErrorName(int error, const char **name) {
    *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == NOT_FOUND   ? "CUDA_ERROR_NOT_FOUND"
            : error == NOT_READY   ? "CUDA_ERROR_NOT_READY"
                                   : "CUDA_ERROR";
    return SUCCESS;
}
int cuGetErrorString(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : error == NOT_FOUND ? "named symbol not found" : "emulated error";
    return SUCCESS;
}

int cuDeviceGetCount(int *count) {
    *count = 1;
    return SUCCESS;
}
int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}
int cuDeviceGetName(char *name, int length, int) {
    std::snprintf(name, length, "Emulated GPU");
    return SUCCESS;
}
int cuDeviceTotalMem_v2(std::size_t *bytes, int) {
    *bytes = machine::memory().total;
    return SUCCESS;
}
int cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
        case 1: *value = 1024; break;     // threads per block
        case 8: *value = 49152; break;    // shared memory per block
        case 10: *value = 32; break;      // warp size
        case 16: *value = 132; break;     // multiprocessors
        case 75: *value = 9; break;       // compute capability, major
        case 76: *value = 0; break;       // and minor
        case 115: *value = 1; break;      // memory pools
        default: *value = 0;
    }
    return SUCCESS;
}
int cuDeviceGetMemPool(void **found, int) {
    *found = &pool;
    return SUCCESS;
}
int cuDeviceGetDefaultMemPool(void **found, int) {
    *found = &pool;
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **found, int) {
    *found = &context;
    return SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxSetCurrent(void *) { return SUCCESS; }
int cuCtxGetCurrent(void **found) {
    *found = &context;
    return SUCCESS;
}
int cuCtxSynchronize() {
    std::vector<machine::Stream *> all;
    {
        Held held;
        all = streams;
    }
    for (machine::Stream *stream : all) machine::settle(stream);
    return synchronise(nullptr);
}

int cuStreamCreate(void **stream, unsigned) {
    Held held;
    streams.push_back(new machine::Stream{int(streams.size()) + 1});
    *stream = streams.back();
    return SUCCESS;
}
int cuStreamDestroy_v2(void *) { return SUCCESS; }
int cuStreamSynchronize(void *stream) {
    machine::settle(of(stream));
    return synchronise(nullptr);
}
int cuStreamIsCapturing(void *, int *status) {
    *status = 0;
    return SUCCESS;
}
// The stream's later work starts after that before the event.
int cuStreamWaitEvent(void *stream, void *event, unsigned) {
    Event waited;
    {
        Held held;
        waited = *static_cast<Event *>(event);
        std::size_t &seen = of(stream)->seen[waited.stream];
        seen = std::max(seen, waited.clock);
    }
    machine::wait_for(waited.work);
    return SUCCESS;
}

int cuEventCreate(void **event, unsigned) {
    Held held;
    machine::count(Count::events);
    *event = new Event;
    return SUCCESS;
}
int cuEventDestroy_v2(void *event) {
    Held held;
    delete static_cast<Event *>(event);
    return SUCCESS;
}
int cuEventRecord(void *event, void *stream) {
    Held held;
    const machine::Stream *recorded = of(stream);
    *static_cast<Event *>(event) = {recorded, recorded->clock, recorded->pending};
    return SUCCESS;
}
int cuEventSynchronize(void *event) {
    std::shared_ptr<machine::Work> work;
    {
        Held held;
        work = static_cast<Event *>(event)->work;
    }
    return synchronise(work);
}
int cuEventQuery(void *event) {
    Held held;
    return machine::has_ended(static_cast<Event *>(event)->work) ? SUCCESS : NOT_READY;
}

int cuMemGetInfo_v2(std::size_t *free, std::size_t *total) {
    Held held;
    const machine::Memory memory = machine::memory();
    *free = memory.total - memory.used;
    *total = memory.total;
    return SUCCESS;
}
int cuMemAllocAsync(std::uintptr_t *pointer, std::size_t bytes, void *stream) { return allocate(pointer, bytes, of(stream)); }
int cuMemAlloc_v2(std::uintptr_t *pointer, std::size_t bytes) { return allocate(pointer, bytes, &default_stream); }
int cuMemFreeAsync(std::uintptr_t pointer, void *stream) {
    Held held;
    machine::release(reinterpret_cast<void *>(pointer), of(stream));
    return SUCCESS;
}
int cuMemFree_v2(std::uintptr_t pointer) {
    Held held;
    machine::release(reinterpret_cast<void *>(pointer), &default_stream);
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(std::uintptr_t to, const void *from, std::size_t bytes, void *stream) {
    return upload(to, from, bytes, of(stream));
}
int cuMemcpyHtoD_v2(std::uintptr_t to, const void *from, std::size_t bytes) { return upload(to, from, bytes, &default_stream); }
int cuMemcpyDtoHAsync_v2(void *to, std::uintptr_t from, std::size_t bytes, void *stream) {
    return read_back(to, from, bytes, of(stream));
}
int cuMemcpyDtoH_v2(void *to, std::uintptr_t from, std::size_t bytes) { return read_back(to, from, bytes, &default_stream); }
int cuMemcpyDtoDAsync_v2(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, void *stream) {
    return copy(to, from, bytes, of(stream));
}
int cuMemcpyDtoD_v2(std::uintptr_t to, std::uintptr_t from, std::size_t bytes) { return copy(to, from, bytes, &default_stream); }
int cuMemsetD8Async(std::uintptr_t to, unsigned char value, std::size_t bytes, void *stream) {
    return fill(to, value, bytes, of(stream));
}
int cuMemsetD8_v2(std::uintptr_t to, unsigned char value, std::size_t bytes) { return fill(to, value, bytes, &default_stream); }

int cuMemPoolSetAttribute(void *, int attribute, void *) {
    Held held;
    if (attribute == 8) machine::reset_peak();
    return SUCCESS;
}
// The pool reserves what it uses.
int cuMemPoolGetAttribute(void *, int attribute, void *value) {
    Held held;
    const machine::Memory memory = machine::memory();
    const std::uint64_t bytes = attribute == 6 || attribute == 8 ? memory.peak : memory.used;
    std::memcpy(value, &bytes, sizeof(bytes));
    if (attribute == 8) machine::start_section();
    return SUCCESS;
}
int cuMemPoolTrimTo(void *, std::size_t) { return SUCCESS; }

// Candle's modules are empty in the emulated build, and have all kernels of the table. A module
// that NVRTC compiled has the entries of its text.
int cuModuleLoadData(void **module, const void *image) {
    Held held;
    machine::count(Count::modules);
    *module = new Module{static_cast<const char *>(image)};
    return SUCCESS;
}
int cuModuleUnload(void *) { return SUCCESS; }
int cuModuleGetFunction(const void **function, void *module, const char *name) {
    Held held;
    const std::string &text = static_cast<Module *>(module)->text;
    if (!text.empty() && text.find(std::string(".entry ") + name + "(") == std::string::npos) return NOT_FOUND;
    *function = machine::find(name);
    if (*function == nullptr) std::fprintf(stderr, "emulated CUDA: no kernel is called %s\n", name);
    return *function ? SUCCESS : NOT_FOUND;
}
int cuFuncSetAttribute(void *, int, int) { return SUCCESS; }

int cuLaunchKernel(const void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared_bytes, void *stream, void **arguments, void **) {
    machine::settle(of(stream));
    Held held;
    const machine::Launch launch = {nullptr, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, of(stream)};
    const unsigned long blocks = 1ul * grid_x * grid_y * grid_z, threads = 1ul * block_x * block_y * block_z;
    if (blocks == 0 || threads == 0 || threads > 1024 || grid_x > 0x7fffffff || grid_y > 65535 || grid_z > 65535 ||
        shared_bytes > 49152)
        return INVALID_VALUE;
    machine::launch(*static_cast<const machine::Entry *>(function), launch, arguments);
    return SUCCESS;
}

}  // extern "C"
