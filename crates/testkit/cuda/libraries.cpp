// cuBLAS and cuRAND, as far as candle and Prospect call them. Products are added in f32, or in f64
// for f64 matrices.
#include "machine.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cuda_bf16.h"

using machine::Held;

namespace {

// cublasStatus_t and curandStatus_t
const int SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15;

// cudaDataType_t
enum Type { F32 = 0, F64 = 1, F16 = 2, BF16 = 14 };
// cublasComputeType_t
enum Compute { IN_F32 = 68, IN_F64 = 70, IN_F32_FAST_BF16 = 75, IN_F32_FAST_TF32 = 77 };

struct Handle {
    machine::Stream *stream = nullptr;
};

const char *name(int type) {
    switch (type) {
        case F32: return "f32";
        case F64: return "f64";
        case F16: return "f16";
        case BF16: return "bf16";
    }
    machine::fail("matrices of type %d are not emulated", type);
}

std::size_t bytes(int type) { return type == F64 ? 8 : type == F32 ? 4 : 2; }

// Column-major matrix, perhaps transposed.
struct Matrix {
    const void *data;
    int type;
    bool transposed;
    std::size_t leading;
};

template <typename T>
T element(const void *data, int type, std::size_t index) {
    switch (type) {
        case F32: return T(static_cast<const float *>(data)[index]);
        case F64: return T(static_cast<const double *>(data)[index]);
        case F16: return T(float(static_cast<const __half *>(data)[index]));
        default: return T(float(static_cast<const __nv_bfloat16 *>(data)[index]));
    }
}

void store(void *data, int type, std::size_t index, double value) {
    switch (type) {
        case F32: static_cast<float *>(data)[index] = float(value); break;
        case F64: static_cast<double *>(data)[index] = value; break;
        case F16: static_cast<__half *>(data)[index] = float(value); break;
        default: static_cast<__nv_bfloat16 *>(data)[index] = float(value);
    }
}

// Returns the matrix as rows of `columns` elements.
template <typename T>
std::vector<T> packed(const Matrix &of, std::size_t rows, std::size_t columns) {
    std::vector<T> all(rows * columns);
    for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t column = 0; column < columns; ++column) {
            const std::size_t index = of.transposed ? column + row * of.leading : row + column * of.leading;
            all[row * columns + column] = element<T>(of.data, of.type, index);
        }
    return all;
}

// c = alpha · a · b + beta · c, with a [m, k], b [k, n] and c [m, n] column-major.
template <typename T>
void multiply(std::size_t m, std::size_t n, std::size_t k, T alpha, const Matrix &a, const Matrix &b, T beta, void *c, int type,
              std::size_t leading) {
    const std::vector<T> left = packed<T>(a, m, k);
    // Of the transposed second matrix, so that a column of the result is a sum of rows.
    Matrix turned = b;
    turned.transposed = !b.transposed;
    const std::vector<T> right = packed<T>(turned, n, k);
    std::vector<T> transposed(k * m), column(m);
    for (std::size_t row = 0; row < m; ++row)
        for (std::size_t i = 0; i < k; ++i) transposed[i * m + row] = left[row * k + i];
    for (std::size_t j = 0; j < n; ++j) {
        std::fill(column.begin(), column.end(), T(0));
        for (std::size_t i = 0; i < k; ++i) {
            const T factor = right[j * k + i];
            const T *from = &transposed[i * m];
            for (std::size_t row = 0; row < m; ++row) column[row] += from[row] * factor;
        }
        for (std::size_t row = 0; row < m; ++row) {
            const std::size_t index = row + j * leading;
            T value = alpha * column[row];
            if (beta != T(0)) value += beta * element<T>(c, type, index);
            store(c, type, index, double(value));
        }
    }
}

template <typename T>
T scalar(const void *pointer) {
    T value;
    std::memcpy(&value, pointer, sizeof(T));
    return value;
}

// Bytes from the first to the last element of a batch of column-major matrices.
std::size_t extent(long rows, long columns, long leading, long stride, int batch, int type) {
    return (std::size_t(batch - 1) * stride + std::size_t(columns - 1) * leading + rows) * bytes(type);
}

int product(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a, int type_a, int lda,
            long stride_a, const void *b, int type_b, int ldb, long stride_b, const void *beta, void *c, int type_c, int ldc,
            long stride_c, int batch, int compute) {
    machine::settle(static_cast<Handle *>(handle)->stream);
    Held held;
    if (m < 0 || n < 0 || k < 0 || batch < 0) return INVALID_VALUE;
    if (lda < (turn_a ? k : m) || ldb < (turn_b ? n : k) || ldc < m || lda < 1 || ldb < 1) return INVALID_VALUE;
    const bool in_f64 = compute == IN_F64, in_f32 = compute == IN_F32 || compute == IN_F32_FAST_BF16 || compute == IN_F32_FAST_TF32;
    const bool half = type_a == F16 || type_a == BF16;
    const bool supported = type_a == type_b && ((in_f64 && type_a == F64 && type_c == F64) ||
                                                (in_f32 && type_a == F32 && type_c == F32) ||
                                                (in_f32 && half && (type_c == type_a || type_c == F32)));
    if (!supported) return NOT_SUPPORTED;
    if (m == 0 || n == 0 || batch == 0) return SUCCESS;
    machine::Stream *stream = static_cast<Handle *>(handle)->stream;
    if (k > 0) {
        machine::check_range(a, extent(turn_a ? k : m, turn_a ? m : k, lda, stride_a, batch, type_a), stream, "a product's first factor");
        machine::check_range(b, extent(turn_b ? n : k, turn_b ? k : n, ldb, stride_b, batch, type_b), stream, "a product's second factor");
    }
    machine::check_range(c, extent(m, n, ldc, stride_c, batch, type_c), stream, "a product");
    machine::count_product((std::string(name(type_a)) + " → " + name(type_c)).c_str(), m, n, k, batch);
    if (!machine::computes()) return SUCCESS;
    for (int i = 0; i < batch; ++i) {
        const auto at = [i](const void *data, int type, long stride) {
            return static_cast<const char *>(data) + std::ptrdiff_t(i) * stride * std::ptrdiff_t(bytes(type));
        };
        const Matrix left = {at(a, type_a, stride_a), type_a, turn_a != 0, std::size_t(lda)};
        const Matrix right = {at(b, type_b, stride_b), type_b, turn_b != 0, std::size_t(ldb)};
        void *to = const_cast<char *>(at(c, type_c, stride_c));
        if (in_f64)
            multiply<double>(m, n, k, scalar<double>(alpha), left, right, scalar<double>(beta), to, type_c, ldc);
        else
            multiply<float>(m, n, k, scalar<float>(alpha), left, right, scalar<float>(beta), to, type_c, ldc);
    }
    return SUCCESS;
}

struct Generator {
    std::mt19937_64 engine;
    machine::Stream *stream = nullptr;
};

template <typename T, typename Distribution>
int draw(void *generator, T *to, std::size_t count, Distribution distribution) {
    Held held;
    Generator &own = *static_cast<Generator *>(generator);
    machine::check_range(to, count * sizeof(T), own.stream, "random numbers");
    for (std::size_t i = 0; machine::computes() && i < count; ++i) to[i] = distribution(own.engine);
    return SUCCESS;
}

}  // namespace

extern "C" {

int cublasCreate_v2(void **handle) {
    *handle = new Handle;
    return SUCCESS;
}
int cublasDestroy_v2(void *handle) {
    delete static_cast<Handle *>(handle);
    return SUCCESS;
}
int cublasSetStream_v2(void *handle, void *stream) {
    static_cast<Handle *>(handle)->stream = static_cast<machine::Stream *>(stream);
    return SUCCESS;
}
int cublasGemmStridedBatchedEx(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a, int type_a,
                               int lda, long long stride_a, const void *b, int type_b, int ldb, long long stride_b, const void *beta,
                               void *c, int type_c, int ldc, long long stride_c, int batch, int compute, int) {
    return product(handle, turn_a, turn_b, m, n, k, alpha, a, type_a, lda, stride_a, b, type_b, ldb, stride_b, beta, c, type_c, ldc,
                   stride_c, batch, compute);
}
int cublasGemmEx(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a, int type_a, int lda,
                 const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc, int compute, int) {
    return product(handle, turn_a, turn_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c, type_c, ldc, 0, 1, compute);
}
int cublasDgemmStridedBatched(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a, int lda,
                              long long stride_a, const void *b, int ldb, long long stride_b, const void *beta, void *c, int ldc,
                              long long stride_c, int batch) {
    return product(handle, turn_a, turn_b, m, n, k, alpha, a, F64, lda, stride_a, b, F64, ldb, stride_b, beta, c, F64, ldc, stride_c,
                   batch, IN_F64);
}

int curandCreateGenerator(void **generator, int) {
    *generator = new Generator;
    return SUCCESS;
}
int curandDestroyGenerator(void *generator) {
    delete static_cast<Generator *>(generator);
    return SUCCESS;
}
int curandSetPseudoRandomGeneratorSeed(void *generator, unsigned long long seed) {
    static_cast<Generator *>(generator)->engine.seed(seed);
    return SUCCESS;
}
int curandSetGeneratorOffset(void *, unsigned long long) { return SUCCESS; }
int curandSetStream(void *generator, void *stream) {
    static_cast<Generator *>(generator)->stream = static_cast<machine::Stream *>(stream);
    return SUCCESS;
}
int curandGenerateNormal(void *generator, float *to, std::size_t count, float mean, float deviation) {
    if (count % 2 != 0) return 105;  // CURAND_STATUS_LENGTH_NOT_MULTIPLE
    return draw(generator, to, count, std::normal_distribution<float>(mean, deviation));
}
int curandGenerateNormalDouble(void *generator, double *to, std::size_t count, double mean, double deviation) {
    if (count % 2 != 0) return 105;
    return draw(generator, to, count, std::normal_distribution<double>(mean, deviation));
}
int curandGenerateUniform(void *generator, float *to, std::size_t count) {
    return draw(generator, to, count, std::uniform_real_distribution<float>(0, 1));
}
int curandGenerateUniformDouble(void *generator, double *to, std::size_t count) {
    return draw(generator, to, count, std::uniform_real_distribution<double>(0, 1));
}

}  // extern "C"
