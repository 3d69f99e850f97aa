// Program that runs one kernel. It reads the launch from standard input and writes the buffers to
// standard output. Integers are little-endian. Input:
//
//   length u32, entry's name · grid u32 × 3 · block u32 × 3 · shared bytes u32 · number of arguments u32 · arguments
//   argument: 0 (null pointer) | 1, bytes u8, value | 2, buffer | 3, count u32, buffers (array of pointers to them)
//   buffer: bytes u64, content
//
// The kernel runs under both schedules; it is an error if their results differ in a bit.
// `--signatures` prints the parameters of all entries.
#pragma once

#include <map>
#include <string>
#include <utility>

namespace emulator {

struct Argument {
    bool pointer = false;
    // Bytes of the scalar or the buffer.
    std::vector<char> bytes;
    bool null = false;
    // Buffers behind an array of pointers, and the array.
    std::vector<std::vector<char>> each;
    std::vector<void *> pointers;
};

template <typename T>
struct Name;
template <>
struct Name<float> {
    static constexpr const char *value = "f32";
};
template <>
struct Name<double> {
    static constexpr const char *value = "f64";
};
template <>
struct Name<bf16> {
    static constexpr const char *value = "bf16";
};
template <>
struct Name<u8> {
    static constexpr const char *value = "u8";
};
template <>
struct Name<u32> {
    static constexpr const char *value = "u32";
};
template <>
struct Name<u64> {
    static constexpr const char *value = "u64";
};

// Scalar parameter.
template <typename T>
struct Parameter {
    static std::string name() { return Name<T>::value; }
    static T of(Argument &argument) {
        if (argument.pointer || argument.bytes.size() != sizeof(T))
            shim::fail("an argument does not match its scalar parameter", 0);
        T value;
        std::memcpy(&value, argument.bytes.data(), sizeof(T));
        return value;
    }
};

// Pointer parameter. Buffers are vectors of their exact size, so that the sanitizer detects
// accesses beyond them.
template <typename T>
struct Parameter<T *> {
    static std::string name() {
        return std::string(std::is_const_v<T> ? "read " : "write ") + Name<std::remove_const_t<T>>::value;
    }
    static T *of(Argument &argument) {
        if (!argument.pointer) shim::fail("an argument is not a pointer", 0);
        return argument.null ? nullptr : reinterpret_cast<T *>(argument.bytes.data());
    }
};

// Array of pointers.
template <typename T>
struct Parameter<T *const *> {
    static std::string name() {
        return std::string(std::is_const_v<T> ? "read" : "write") + " each " + Name<std::remove_const_t<T>>::value;
    }
    static T *const *of(Argument &argument) {
        if (argument.pointers.empty()) shim::fail("an argument is not an array of pointers", 0);
        for (std::size_t i = 0; i < argument.each.size(); ++i) argument.pointers[i] = argument.each[i].data();
        return reinterpret_cast<T *const *>(argument.pointers.data());
    }
};

struct Entry {
    std::string signature;
    std::function<void(std::vector<Argument> &)> call;
};

template <typename... A, std::size_t... I>
void call(void (*kernel)(A...), std::vector<Argument> &arguments, std::index_sequence<I...>) {
    kernel(Parameter<A>::of(arguments[I])...);
}

template <typename... A>
Entry entry(void (*kernel)(A...)) {
    std::string signature;
    ((signature += (signature.empty() ? "" : ", ") + Parameter<A>::name()), ...);
    return {signature, [kernel](std::vector<Argument> &arguments) {
                if (arguments.size() != sizeof...(A)) shim::fail("wrong number of arguments", 0);
                call(kernel, arguments, std::index_sequence_for<A...>());
            }};
}

inline void read(void *to, std::size_t bytes) {
    if (bytes > 0 && std::fread(to, 1, bytes, stdin) != bytes) shim::fail("the input ends early", 0);
}

template <typename T>
T read() {
    T value;
    read(&value, sizeof(T));
    return value;
}

inline std::vector<char> read_buffer() {
    std::vector<char> bytes(read<u64>());
    read(bytes.data(), bytes.size());
    return bytes;
}

inline Argument read_argument() {
    Argument argument;
    const u8 tag = read<u8>();
    argument.pointer = tag != 1;
    argument.null = tag == 0;
    if (tag == 1) {
        argument.bytes.resize(read<u8>());
        read(argument.bytes.data(), argument.bytes.size());
    }
    if (tag == 2) argument.bytes = read_buffer();
    if (tag == 3) {
        argument.pointers.resize(read<u32>());
        for (std::size_t i = 0; i < argument.pointers.size(); ++i) argument.each.push_back(read_buffer());
    }
    return argument;
}

inline uint3 read_size() {
    const u32 x = read<u32>(), y = read<u32>(), z = read<u32>();
    return {x, y, z};
}

template <typename Entries>
int run(const Entries &entries, int count, char **options) {
    if (count > 1 && std::string(options[1]) == "--signatures") {
        for (const auto &[name, entry] : entries) std::printf("%s(%s)\n", name.c_str(), entry.signature.c_str());
        return 0;
    }
    std::string name(read<u32>(), ' ');
    read(name.data(), name.size());
    const auto found = entries.find(name);
    if (found == entries.end()) shim::fail("unknown entry", 0);
    gridDim = read_size();
    blockDim = read_size();
    if (gridDim.z != 1 || blockDim.y != 1 || blockDim.z != 1) shim::fail("too many launch dimensions", 0);
    if (blockDim.x % shim::WARP_SIZE != 0) shim::fail("the block size is not a multiple of the warp size", 0);
    const u32 shared_bytes = read<u32>();
    std::vector<Argument> arguments(read<u32>());
    for (Argument &argument : arguments) argument = read_argument();

    std::vector<Argument> results;
    for (shim::Schedule schedule : {shim::Schedule::ascending, shim::Schedule::descending}) {
        std::vector<Argument> copies = arguments;
        shim::run_grid([&] { found->second.call(copies); }, shared_bytes, schedule);
        for (std::size_t i = 0; i < results.size(); ++i)
            if (results[i].bytes != copies[i].bytes || results[i].each != copies[i].each)
                shim::fail("the result depends on the order of threads", 0);
        results = std::move(copies);
    }
    const auto write = [](const std::vector<char> &bytes) {
        if (!bytes.empty()) std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    };
    for (const Argument &argument : results) {
        if (argument.pointer) write(argument.bytes);
        for (const std::vector<char> &bytes : argument.each) write(bytes);
    }
    return 0;
}

}  // namespace emulator
