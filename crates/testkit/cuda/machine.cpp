// The emulated machine's memory, kernels and record.
//
//   EMULATED_CUDA_RECORD   file that receives the record as JSON at exit; that of rank N > 0 gets the extension N
//   EMULATED_CUDA_COUNT    if set, kernels and products only count, and memory is never touched
//   EMULATED_CUDA_MEMORY   bytes of device memory, default 80 GiB
//   EMULATED_CUDA_FAIL     N or N@RANK: the allocation of this number, from 1, fails (on this rank, default 0)
//
// Every allocation ends at a page that cannot be accessed, so reads and writes beyond it end the
// program, as do uses after it was freed.
#include "machine.h"

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <sys/mman.h>

namespace machine {

struct Entry {
    std::string name;
    Run run;
};

namespace {

const std::size_t PAGE = 4096;
// Granularity of the driver's memory pool.
const std::size_t GRANULE = 512;
// Alignment of pointers; larger ones would leave room between an allocation and its guard.
const std::size_t ALIGNMENT = 16;

const char *const NAMES[] = {"launches",     "products", "uploads",          "uploaded_bytes", "reads",
                             "read_bytes",   "copies",   "fills",            "synchronisations", "allocations",
                             "events",       "modules",  "all_reduces",      "reduce_scatters", "all_gathers",
                             "meanwhile",    "finalised", "aborted"};
const std::size_t COUNTS = sizeof(NAMES) / sizeof(NAMES[0]);

struct Section {
    std::size_t counts[COUNTS] = {};
    std::size_t peak = 0;
    std::map<std::string, std::size_t> launches, products;
    // Number of allocations by their bytes, within a thousandth of the peak.
    std::map<std::size_t, std::size_t> at_peak;
    std::size_t noted_peak = 0;
    std::map<std::size_t, std::size_t> threads;
};

struct Allocation {
    std::size_t bytes;
    void *mapped;
    std::size_t mapped_bytes;
    Stream *stream;
    // Clock of its stream after the allocation.
    std::size_t stamp;
    // Number of pending operations that use it.
    std::size_t users = 0;
};

// Never destroyed: the program may use the machine until it ends.
struct State {
    std::recursive_mutex held;
    std::map<std::string, Entry> entries;
    std::map<std::uintptr_t, Allocation> allocations;
    std::vector<Section> sections{1};
    std::map<std::thread::id, std::size_t> threads;
    std::size_t used = 0, peak = 0, total;
    // Number of current allocations by their bytes.
    std::map<std::size_t, std::size_t> sizes;
    // Works that have not ended.
    std::size_t working = 0;
    bool computes;
    // Allocations up to the one that fails.
    std::size_t until_failure = 0;
    const char *entry = nullptr;
};

State &state() {
    static State *const only = [] {
        State *state = new State;
        const char *memory = std::getenv("EMULATED_CUDA_MEMORY");
        state->total = memory ? std::strtoull(memory, nullptr, 10) : std::size_t(80) << 30;
        state->computes = std::getenv("EMULATED_CUDA_COUNT") == nullptr;
        if (const char *failing = std::getenv("EMULATED_CUDA_FAIL")) {
            char *rest = nullptr;
            const std::size_t nth = std::strtoull(failing, &rest, 10);
            const char *own = std::getenv("RANK");
            if (std::strcmp(*rest == '@' ? rest + 1 : "0", own ? own : "0") == 0) state->until_failure = nth;
        }
        return state;
    }();
    return *only;
}

std::size_t up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

// Allocation that the address is in or directly after, or null.
Allocation *allocation_at(std::uintptr_t address, std::uintptr_t &base) {
    auto after = state().allocations.upper_bound(address);
    if (after == state().allocations.begin()) return nullptr;
    --after;
    base = after->first;
    return &after->second;
}

void report_access(int, siginfo_t *info, void *) {
    std::uintptr_t base = 0, address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    const Allocation *near = allocation_at(address, base);
    char text[512];
    int length = std::snprintf(text, sizeof(text), "emulated CUDA: invalid access of %p in %s", info->si_addr,
                               state().entry ? state().entry : "the host");
    if (near != nullptr)
        length += std::snprintf(text + length, sizeof(text) - length, ", %zd bytes after the start of an allocation of %zu bytes",
                                std::ptrdiff_t(address - base), near->bytes);
    std::fprintf(stderr, "%s\n", text);
    std::signal(SIGSEGV, SIG_DFL);
    std::raise(SIGSEGV);
}

void write_counts(std::FILE *file, const char *name, const std::map<std::string, std::size_t> &counts) {
    std::fprintf(file, ",\n   \"%s\": {", name);
    const char *separator = "";
    for (const auto &[what, count] : counts) {
        std::fprintf(file, "%s\n    \"%s\": %zu", separator, what.c_str(), count);
        separator = ",";
    }
    std::fprintf(file, "}");
}

void write_record() {
    if (std::getenv("EMULATED_CUDA_RECORD") == nullptr) return;
    std::string path = std::getenv("EMULATED_CUDA_RECORD");
    const char *rank = std::getenv("RANK");
    if (rank != nullptr && std::strcmp(rank, "0") != 0) path += std::string(".") + rank;
    std::FILE *file = std::fopen(path.c_str(), "w");
    if (file == nullptr) {
        std::perror(path.c_str());
        return;
    }
    State &all = state();
    all.sections.back().peak = all.peak;
    std::fprintf(file, "{\"sections\": [");
    const char *separator = "";
    for (const Section &section : all.sections) {
        std::fprintf(file, "%s\n  {\"peak_bytes\": %zu, \"threads\": %zu", separator, section.peak, section.threads.size());
        for (std::size_t i = 0; i < COUNTS; ++i) std::fprintf(file, ", \"%s\": %zu", NAMES[i], section.counts[i]);
        write_counts(file, "by_kernel", section.launches);
        write_counts(file, "by_product", section.products);
        std::map<std::string, std::size_t> at_peak;
        for (const auto &[bytes, count] : section.at_peak) at_peak[std::to_string(bytes)] = count;
        write_counts(file, "allocations_at_peak", at_peak);
        std::fprintf(file, "}");
        separator = ",";
    }
    std::fprintf(file, "\n]}\n");
    std::fclose(file);
}

__attribute__((constructor)) void start() {
    state();
    std::atexit(write_record);
}

}  // namespace

struct Work {
    std::mutex changing;
    std::condition_variable changed;
    bool ended = false;
};

bool has_ended(const std::shared_ptr<Work> &work) {
    if (!work) return true;
    const std::lock_guard<std::mutex> lock(work->changing);
    return work->ended;
}

void wait_for(const std::shared_ptr<Work> &work) {
    if (!work) return;
    std::unique_lock<std::mutex> lock(work->changing);
    work->changed.wait(lock, [&] { return work->ended; });
}

void settle(Stream *stream) {
    std::shared_ptr<Work> work;
    {
        Held held;
        if (stream != nullptr) work = stream->pending;
    }
    wait_for(work);
}

std::shared_ptr<Work> start_work(Stream *stream, const std::vector<const void *> &buffers, std::function<void()> run) {
    const std::shared_ptr<Work> work = std::make_shared<Work>();
    Held held;
    const auto use = [buffers](int by) {
        for (const void *buffer : buffers) {
            std::uintptr_t base = 0;
            allocation_at(reinterpret_cast<std::uintptr_t>(buffer), base)->users += by;
        }
    };
    use(1);
    ++state().working;
    stream->pending = work;
    std::thread([work, run, use] {
        run();
        {
            Held held;
            use(-1);
            --state().working;
        }
        const std::lock_guard<std::mutex> lock(work->changing);
        work->ended = true;
        work->changed.notify_all();
    }).detach();
    return work;
}

bool computes() { return state().computes; }

void fail(const char *format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::fputs("emulated CUDA: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputc('\n', stderr);
    va_end(arguments);
    std::abort();
}

Held::Held() {
    state().held.lock();
    const auto thread = state().threads.emplace(std::this_thread::get_id(), state().threads.size()).first->second;
    ++state().sections.back().threads[thread];
}

Held::~Held() { state().held.unlock(); }

void add(const char *name, Run run) {
    if (!state().entries.emplace(name, Entry{name, run}).second) fail("two kernels are called %s", name);
}

const Entry *find(const char *name) {
    const auto found = state().entries.find(name);
    return found == state().entries.end() ? nullptr : &found->second;
}

void launch(const Entry &entry, const Launch &launch, void **arguments) {
    count(Count::launches);
    if (state().working > 0) count(Count::meanwhile);
    ++state().sections.back().launches[entry.name];
    state().entry = entry.name.c_str();
    Launch named = launch;
    named.entry = state().entry;
    entry.run(named, arguments);
    state().entry = nullptr;
}

void check_range(const void *pointer, std::size_t bytes, Stream *stream, const char *what) {
    std::uintptr_t base = 0, address = reinterpret_cast<std::uintptr_t>(pointer);
    const Allocation *allocation = allocation_at(address, base);
    if (allocation == nullptr || address + bytes > base + allocation->bytes)
        fail("%s uses %zu bytes at %p, which are in no allocation", what, bytes, pointer);
    if (allocation->stream == stream) return;
    if (stream == nullptr) fail("%s has no stream", what);
    const auto seen = stream->seen.find(allocation->stream);
    if (seen == stream->seen.end() || seen->second < allocation->stamp)
        fail("%s uses %zu bytes at %p on another stream than their own", what, bytes, pointer);
}

// An empty view may point to the end of its allocation.
void check_use(const void *pointer, Stream *stream, const char *what) { check_range(pointer, 0, stream, what); }

void *allocate(std::size_t bytes, Stream *stream) {
    State &all = state();
    const std::size_t counted = up(std::max<std::size_t>(bytes, 1), GRANULE);
    if (all.used + counted > all.total) return nullptr;
    if (all.until_failure > 0 && --all.until_failure == 0) return nullptr;
    const std::size_t padded = up(std::max<std::size_t>(bytes, 1), ALIGNMENT), pages = up(padded, PAGE);
    void *mapped = mmap(nullptr, pages + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED || mprotect(mapped, pages, PROT_READ | PROT_WRITE) != 0)
        fail("the host has no memory for an allocation of %zu bytes", bytes);
    char *pointer = static_cast<char *>(mapped) + (pages - padded);
    if (all.computes) std::memset(pointer, 0xff, padded);
    all.allocations.emplace(reinterpret_cast<std::uintptr_t>(pointer), Allocation{bytes, mapped, pages + PAGE, stream, ++stream->clock});
    all.used += counted;
    all.peak = std::max(all.peak, all.used);
    count(Count::allocations);
    ++all.sizes[bytes];
    Section &section = all.sections.back();
    if (all.used > section.noted_peak + section.noted_peak / 1000) {
        section.noted_peak = all.used;
        section.at_peak = all.sizes;
    }
    if (all.allocations.size() == 1) {
        struct sigaction action = {};
        action.sa_sigaction = report_access;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(SIGSEGV, &action, nullptr);
    }
    return pointer;
}

void release(void *pointer, Stream *stream) {
    State &all = state();
    const auto found = all.allocations.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == all.allocations.end()) fail("%p is freed, but is no allocation", pointer);
    if (found->second.stream != stream) fail("%p is freed on another stream than its own", pointer);
    if (found->second.users > 0) fail("%p is freed while a collective operation uses it", pointer);
    // Padding between the allocation and its guard.
    const unsigned char *end = static_cast<unsigned char *>(pointer) + found->second.bytes;
    const std::size_t padding = up(std::max<std::size_t>(found->second.bytes, 1), ALIGNMENT) - found->second.bytes;
    for (std::size_t i = 0; all.computes && i < padding; ++i)
        if (end[i] != 0xff) fail("a write %zu bytes beyond an allocation of %zu bytes", i + 1, found->second.bytes);
    munmap(found->second.mapped, found->second.mapped_bytes);
    all.used -= up(std::max<std::size_t>(found->second.bytes, 1), GRANULE);
    if (--all.sizes[found->second.bytes] == 0) all.sizes.erase(found->second.bytes);
    all.allocations.erase(found);
}

Memory memory() { return {state().total, state().used, state().peak}; }

void start_section() {
    state().sections.back().peak = state().peak;
    state().sections.emplace_back();
}

void reset_peak() {
    start_section();
    state().peak = state().used;
}

void count(Count what, std::size_t by) { state().sections.back().counts[std::size_t(what)] += by; }

void count_collective(int kind) {
    Held held;
    count(Count(int(Count::all_reduces) + kind));
}

void count_product(const char *types, int m, int n, int k, int batch) {
    count(Count::products);
    if (state().working > 0) count(Count::meanwhile);
    char name[160];
    std::snprintf(name, sizeof(name), "%s %d × %d × %d, %d", types, m, n, k, batch);
    ++state().sections.back().products[name];
}

}  // namespace machine
