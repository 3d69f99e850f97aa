// NCCL for ranks that are processes of one machine, as far as Prospect calls it.
//
// An operation runs on a thread of its own, as on a GPU: events after it are pending until all ranks
// have started it. Ranks exchange files in a folder, whose name is the unique id. The files of an
// operation name its kind and size, so ranks that run different operations are found. Sums are added
// in another order for each part of the elements, as in a ring.
#include "machine.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

using machine::Count;
using machine::Held;

namespace {

// ncclResult_t
const int SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5;

// ncclDataType_t and ncclRedOp_t
enum Type { UINT8 = 1, F32 = 7 };
const int SUM = 0;

enum class Kind : std::uint32_t { all_reduce, reduce_scatter, all_gather };

struct Header {
    Kind kind;
    std::uint32_t bytes_of_element;
    std::uint64_t count;
};

struct Operation {
    Header header;
    const void *send;
    void *receive;
    // Bytes of this rank's data, and of its result.
    std::size_t sent, received;
};

struct Communicator {
    std::string folder;
    int rank, size;
    std::uint64_t operations = 0;
    std::atomic<bool> aborted{false};
    // The last operations.
    std::shared_ptr<machine::Work> last;
};

// Started operations of a group of calls, on one stream.
struct Group {
    int depth = 0;
    Communicator *communicator = nullptr;
    machine::Stream *stream = nullptr;
    std::vector<Operation> operations;
};

thread_local Group group;

std::string file_of(const Communicator &comm, const std::string &what, int rank) {
    return comm.folder + "/" + what + "." + std::to_string(rank);
}

// Writes a file that appears whole.
void write_file(const std::string &name, const Header *header, const void *data, std::size_t bytes) {
    std::ofstream file(name + ".part", std::ios::binary);
    if (header != nullptr) file.write(reinterpret_cast<const char *>(header), sizeof(*header));
    file.write(static_cast<const char *>(data), bytes);
    file.close();
    std::error_code error;
    if (!file) machine::fail("%s cannot be written", name.c_str());
    std::filesystem::rename(name + ".part", name, error);
}

// Waits for a file of every rank. False if the communicator is aborted or the folder gone.
bool wait_for_all(const Communicator &comm, const std::string &what) {
    for (int rank = 0; rank < comm.size; ++rank)
        while (!std::filesystem::exists(file_of(comm, what, rank))) {
            if (comm.aborted || !std::filesystem::exists(comm.folder)) return false;
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
    return true;
}

// Adds the ranks' elements; the order of addition depends on the part that an element is in.
void add(const std::vector<std::vector<char>> &parts, std::size_t first, std::size_t count, std::size_t all, float *to) {
    const std::size_t ranks = parts.size();
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t start = (first + i) * ranks / all;
        float sum = 0;
        for (std::size_t turn = 1; turn <= ranks; ++turn)
            sum += reinterpret_cast<const float *>(parts[(start + turn) % ranks].data())[first + i];
        to[i] = sum;
    }
}

void finish(const Communicator &comm, const Operation &operation, const std::vector<std::vector<char>> &parts) {
    const std::size_t count = operation.header.count, ranks = parts.size();
    float *sums = static_cast<float *>(operation.receive);
    switch (operation.header.kind) {
        case Kind::all_reduce: add(parts, 0, count, count, sums); break;
        case Kind::reduce_scatter: add(parts, comm.rank * count, count, ranks * count, sums); break;
        case Kind::all_gather:
            for (std::size_t rank = 0; rank < ranks; ++rank)
                std::memcpy(static_cast<char *>(operation.receive) + rank * parts[rank].size(), parts[rank].data(), parts[rank].size());
    }
}

void run(Communicator &comm, const Operation &operation, std::uint64_t number) {
    const std::string name = std::to_string(number);
    const bool computes = machine::computes();
    write_file(file_of(comm, name, comm.rank), &operation.header, operation.send, computes ? operation.sent : 0);
    if (!wait_for_all(comm, name)) return;
    std::vector<std::vector<char>> parts;
    for (int rank = 0; rank < comm.size; ++rank) {
        std::ifstream file(file_of(comm, name, rank), std::ios::binary);
        Header header;
        file.read(reinterpret_cast<char *>(&header), sizeof(header));
        if (!file || std::memcmp(&header, &operation.header, sizeof(header)) != 0)
            machine::fail("rank %d runs another collective operation than rank %d", rank, comm.rank);
        parts.emplace_back(computes ? operation.sent : 0);
        file.read(parts.back().data(), parts.back().size());
    }
    // All ranks have ended the operation before this one.
    if (number > 0) std::remove(file_of(comm, std::to_string(number - 1), comm.rank).c_str());
    if (computes) finish(comm, operation, parts);
}

int start_group() {
    Communicator *comm = group.communicator;
    machine::Stream *stream = group.stream;
    const std::vector<Operation> operations = std::move(group.operations);
    group = Group();
    if (operations.empty()) return SUCCESS;
    const std::uint64_t first = comm->operations;
    comm->operations += operations.size();
    for (const Operation &operation : operations) machine::count_collective(int(operation.header.kind));
    std::vector<const void *> buffers;
    for (const Operation &operation : operations) buffers.insert(buffers.end(), {operation.send, operation.receive});
    comm->last = machine::start_work(stream, buffers, [comm, operations, first] {
        for (std::size_t i = 0; i < operations.size(); ++i) run(*comm, operations[i], first + i);
    });
    return SUCCESS;
}

int start(Communicator *comm, machine::Stream *stream, const Operation &operation) {
    machine::settle(stream);
    {
        Held held;
        machine::check_range(operation.send, operation.sent, stream, "a collective operation");
        machine::check_range(operation.receive, operation.received, stream, "a collective operation");
    }
    if (group.communicator != nullptr && (group.communicator != comm || group.stream != stream)) return INVALID_USAGE;
    group.communicator = comm;
    group.stream = stream;
    group.operations.push_back(operation);
    return group.depth > 0 ? SUCCESS : start_group();
}

int start_sum(Kind kind, const void *send, void *receive, std::size_t count, int type, int op, void *comm, void *stream) {
    if (type != F32 || op != SUM) return INVALID_ARGUMENT;
    Communicator *communicator = static_cast<Communicator *>(comm);
    const std::size_t parts = kind == Kind::reduce_scatter ? communicator->size : 1;
    const Header header = {kind, sizeof(float), count};
    const Operation operation = {header, send, receive, parts * count * sizeof(float), count * sizeof(float)};
    return start(communicator, static_cast<machine::Stream *>(stream), operation);
}

}  // namespace

extern "C" {

struct ncclUniqueId {
    char internal[128];
};

int ncclGetUniqueId(ncclUniqueId *id) {
    const std::string pattern = (std::filesystem::temp_directory_path() / "emulated-nccl-XXXXXX").string();
    if (pattern.size() >= sizeof(id->internal)) return SYSTEM_ERROR;
    std::memset(id->internal, 0, sizeof(id->internal));
    std::memcpy(id->internal, pattern.c_str(), pattern.size());
    return mkdtemp(id->internal) != nullptr ? SUCCESS : SYSTEM_ERROR;
}

int ncclCommInitRank(void **comm, int size, ncclUniqueId id, int rank) {
    if (rank < 0 || rank >= size) return INVALID_ARGUMENT;
    Communicator *communicator = new Communicator{id.internal, rank, size};
    write_file(file_of(*communicator, "joined", rank), nullptr, nullptr, 0);
    *comm = communicator;
    return wait_for_all(*communicator, "joined") ? SUCCESS : SYSTEM_ERROR;
}

int ncclGroupStart() {
    ++group.depth;
    return SUCCESS;
}

int ncclGroupEnd() {
    if (group.depth == 0) return INVALID_USAGE;
    return --group.depth > 0 ? SUCCESS : start_group();
}

int ncclAllReduce(const void *send, void *receive, std::size_t count, int type, int op, void *comm, void *stream) {
    return start_sum(Kind::all_reduce, send, receive, count, type, op, comm, stream);
}

int ncclReduceScatter(const void *send, void *receive, std::size_t count, int type, int op, void *comm, void *stream) {
    return start_sum(Kind::reduce_scatter, send, receive, count, type, op, comm, stream);
}

int ncclAllGather(const void *send, void *receive, std::size_t count, int type, void *comm, void *stream) {
    if (type != UINT8) return INVALID_ARGUMENT;
    Communicator *communicator = static_cast<Communicator *>(comm);
    const Operation operation = {{Kind::all_gather, 1, count}, send, receive, count, communicator->size * count};
    return start(communicator, static_cast<machine::Stream *>(stream), operation);
}

// Real NCCL, too, requires that all ranks call it.
int ncclCommFinalize(void *comm) {
    Communicator &communicator = *static_cast<Communicator *>(comm);
    {
        Held held;
        machine::count(Count::finalised);
    }
    write_file(file_of(communicator, "finalised", communicator.rank), nullptr, nullptr, 0);
    wait_for_all(communicator, "finalised");
    return SUCCESS;
}

int ncclCommDestroy(void *comm) {
    const Communicator &communicator = *static_cast<Communicator *>(comm);
    std::error_code error;
    if (communicator.rank == 0) std::filesystem::remove_all(communicator.folder, error);
    return SUCCESS;
}

int ncclCommAbort(void *comm) {
    Communicator &communicator = *static_cast<Communicator *>(comm);
    communicator.aborted = true;
    machine::wait_for(communicator.last);
    Held held;
    machine::count(Count::aborted);
    std::error_code error;
    if (communicator.rank == 0) std::filesystem::remove_all(communicator.folder, error);
    return SUCCESS;
}

}  // extern "C"
