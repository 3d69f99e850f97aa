// FlashAttention over prompt trees (arXiv 2205.14135, 2307.08691): scores are never stored. Keys
// stream through shared memory 32 at a time with a running maximum and sum. Arithmetic is f32. All
// completions attend to their prompt's rows; the mask is in the tiles that the host builds
// (src/attention/plan.rs).
//
// Each warp owns ROWS rows of the tile. To compute scores, a lane handles one key (or one query, in
// the backward pass for keys) and reads its own row of the streamed tile; an odd row stride avoids
// bank conflicts. To sum over keys, a lane handles every 32nd dimension of a head, STRIPES in
// total, so that reads are coalesced. No sum uses atomics, so results are deterministic.
//
// STRIPES·32 is the largest head dimension. WARPS is the number of warps whose rows fit into 48 KiB
// of shared memory.

const u32 ROWS = 4;

// Loads `count` rows of one head, starting at `from`, into shared memory as f32 times `factor`.
// Rows from `to` on are zero.
template <typename T>
__device__ void load(float *tile, u32 tile_stride, const T *rows, u32 from, u32 to, u32 count, u32 row_stride, u32 dim,
                     float factor) {
    for (u32 r = threadIdx.x / WARP; r < count; r += blockDim.x / WARP)
        for (u32 d = threadIdx.x % WARP; d < dim; d += WARP)
            tile[r * tile_stride + d] =
                from + r < to ? to_float(rows[(u64)(from + r) * row_stride + d]) * factor : 0.0f;
}

// products[r] = row r of this warp · this lane's row of the streamed tile.
__device__ inline void dot(float *products, const float *own, const float *streamed, u32 dim) {
    for (u32 r = 0; r < ROWS; ++r) products[r] = 0.0f;
    for (u32 d = 0; d < dim; ++d) {
        const float value = streamed[d];
        for (u32 r = 0; r < ROWS; ++r) products[r] += own[r * dim + d] * value;
    }
}

// sums[r] += Σ over streamed rows of weight[r, row]·row.
template <u32 STRIPES>
__device__ void accumulate(float (*sums)[STRIPES], const float *weights, const float *streamed, u32 stride, u32 count,
                           u32 dim) {
    for (u32 row = 0; row < count; ++row)
        for (u32 i = 0; i < STRIPES; ++i) {
            const u32 d = threadIdx.x % WARP + i * WARP;
            const float value = d < dim ? streamed[row * stride + d] : 0.0f;
            for (u32 r = 0; r < ROWS; ++r) sums[r][i] += weights[r * WARP + row] * value;
        }
}

template <typename T, u32 STRIPES>
__device__ void store_row(T *row, const float *sums, float factor, u32 dim) {
    for (u32 i = 0; i < STRIPES; ++i) {
        const u32 d = threadIdx.x % WARP + i * WARP;
        if (d < dim) store(&row[d], sums[i] * factor);
    }
}

// Tile of queries: its rows, the rows before their branch that they attend to (the prompt, or
// none), and the first row of their branch.
struct QueryTile {
    u32 first, end, before_first, before_end, own_first;
};

// Computes y and, for the backward pass, the log-sum-exp of the scores of each row and head. Block:
// a tile of queries and a query head.
template <typename T, u32 STRIPES>
__device__ void attention_forward(T *y, float *lse, const T *q, const T *k, const T *v, const u32 *tiles,
                                  u32 query_heads, u32 key_heads, u32 dim, float scale) {
    SHARED_MEMORY(shared);
    const u32 lane = threadIdx.x % WARP, own = threadIdx.x / WARP * ROWS, tile_rows = blockDim.x / WARP * ROWS;
    const u32 head = blockIdx.y, key_offset = head / (query_heads / key_heads) * dim, stride = dim | 1;
    const QueryTile tile = ((const QueryTile *)tiles)[blockIdx.x];
    float *queries = shared, *streamed = queries + tile_rows * dim;
    float *weights = streamed + WARP * stride + own * WARP;
    load(queries, dim, q + head * dim, tile.first, tile.end, tile_rows, query_heads * dim, dim, scale);
    float highest[ROWS], sum[ROWS], out[ROWS][STRIPES];
    for (u32 r = 0; r < ROWS; ++r) {
        highest[r] = negative_infinity();
        sum[r] = 0.0f;
        for (u32 i = 0; i < STRIPES; ++i) out[r][i] = 0.0f;
    }
    for (u32 part = 0; part < 2; ++part) {
        const u32 to = part == 0 ? tile.before_end : tile.end;
        for (u32 from = part == 0 ? tile.before_first : tile.own_first; from < to; from += WARP) {
            __syncthreads();
            load(streamed, stride, k + key_offset, from, to, WARP, key_heads * dim, dim, 1.0f);
            __syncthreads();
            float score[ROWS];
            dot(score, queries + own * dim, streamed + lane * stride, dim);
            const u32 key = from + lane;
            for (u32 r = 0; r < ROWS; ++r) {
                const bool seen = key < to && key <= tile.first + own + r;
                // Finite from the first keys on, because all queries attend to each part's first
                // keys.
                const float peak = fmaxf(highest[r], warp_max(seen ? score[r] : negative_infinity()));
                const float keep = expf(highest[r] - peak), p = seen ? expf(score[r] - peak) : 0.0f;
                highest[r] = peak;
                sum[r] = sum[r] * keep + p;
                for (u32 i = 0; i < STRIPES; ++i) out[r][i] *= keep;
                weights[r * WARP + lane] = p;
            }
            __syncthreads();
            load(streamed, stride, v + key_offset, from, to, WARP, key_heads * dim, dim, 1.0f);
            __syncthreads();
            accumulate<STRIPES>(out, weights, streamed, stride, min(WARP, to - from), dim);
        }
    }
    for (u32 r = 0; r < ROWS; ++r) {
        const float total = warp_sum(sum[r]);
        const u32 row = tile.first + own + r;
        if (row >= tile.end) continue;
        store_row<T, STRIPES>(y + ((u64)row * query_heads + head) * dim, out[r], 1.0f / total, dim);
        if (lane == 0) lse[(u64)row * query_heads + head] = highest[r] + logf(total);
    }
}

// delta = Σ over a head's dimensions of grad·y, which equals Σ over keys of p·dp. One warp per row
// and head.
template <typename T>
__device__ void attention_delta(float *delta, const T *grad, const T *y, u64 heads, u32 dim) {
    const u64 head = first_element() / WARP;
    if (head >= heads) return;
    float sum = 0.0f;
    for (u32 d = threadIdx.x % WARP; d < dim; d += WARP)
        sum += to_float(grad[head * dim + d]) * to_float(y[head * dim + d]);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) delta[head] = sum;
}

// dq = scale·Σ over keys of ds·k, with p = exp(score − lse) and ds = p·(grad·v − delta). Block as
// in the forward pass.
template <typename T, u32 STRIPES>
__device__ void attention_backward_queries(T *dq, const T *q, const T *k, const T *v, const T *grad,
                                           const float *lse, const float *delta, const u32 *tiles, u32 query_heads,
                                           u32 key_heads, u32 dim, float scale) {
    SHARED_MEMORY(shared);
    const u32 lane = threadIdx.x % WARP, own = threadIdx.x / WARP * ROWS, tile_rows = blockDim.x / WARP * ROWS;
    const u32 head = blockIdx.y, key_offset = head / (query_heads / key_heads) * dim, stride = dim | 1;
    const QueryTile tile = ((const QueryTile *)tiles)[blockIdx.x];
    float *queries = shared, *grads = queries + tile_rows * dim, *streamed = grads + tile_rows * dim;
    float *weights = streamed + WARP * stride + own * WARP;
    load(queries, dim, q + head * dim, tile.first, tile.end, tile_rows, query_heads * dim, dim, scale);
    load(grads, dim, grad + head * dim, tile.first, tile.end, tile_rows, query_heads * dim, dim, 1.0f);
    float row_lse[ROWS], row_delta[ROWS], out[ROWS][STRIPES];
    for (u32 r = 0; r < ROWS; ++r) {
        const u32 row = tile.first + own + r;
        const u64 at = (u64)row * query_heads + head;
        row_lse[r] = row < tile.end ? lse[at] : 0.0f;
        row_delta[r] = row < tile.end ? delta[at] : 0.0f;
        for (u32 i = 0; i < STRIPES; ++i) out[r][i] = 0.0f;
    }
    for (u32 part = 0; part < 2; ++part) {
        const u32 to = part == 0 ? tile.before_end : tile.end;
        for (u32 from = part == 0 ? tile.before_first : tile.own_first; from < to; from += WARP) {
            float score[ROWS], dp[ROWS];
            __syncthreads();
            load(streamed, stride, v + key_offset, from, to, WARP, key_heads * dim, dim, 1.0f);
            __syncthreads();
            dot(dp, grads + own * dim, streamed + lane * stride, dim);
            __syncthreads();
            load(streamed, stride, k + key_offset, from, to, WARP, key_heads * dim, dim, 1.0f);
            __syncthreads();
            dot(score, queries + own * dim, streamed + lane * stride, dim);
            const u32 key = from + lane;
            for (u32 r = 0; r < ROWS; ++r) {
                const bool seen = key < to && key <= tile.first + own + r && tile.first + own + r < tile.end;
                weights[r * WARP + lane] = seen ? expf(score[r] - row_lse[r]) * (dp[r] - row_delta[r]) : 0.0f;
            }
            __syncwarp();
            accumulate<STRIPES>(out, weights, streamed, stride, min(WARP, to - from), dim);
        }
    }
    for (u32 r = 0; r < ROWS; ++r) {
        const u32 row = tile.first + own + r;
        if (row < tile.end) store_row<T, STRIPES>(dq + ((u64)row * query_heads + head) * dim, out[r], scale, dim);
    }
}

// Tile of keys: its rows, and the spans of queries that attend to them,
// `spans[spans_from..spans_to]`.
struct KeyTile {
    u32 first, end, spans_from, spans_to;
};

struct Span {
    u32 first, end;
};

// dk = scale·Σ over queries of ds·q and dv = Σ p·grad, over all query heads of a key head in turn.
// Block: a tile of keys, a key head.
template <typename T, u32 STRIPES>
__device__ void attention_backward_keys(T *dk, T *dv, const T *q, const T *k, const T *v, const T *grad,
                                        const float *lse, const float *delta, const u32 *tiles, const u32 *spans,
                                        u32 query_heads, u32 key_heads, u32 dim, float scale) {
    SHARED_MEMORY(shared);
    const u32 lane = threadIdx.x % WARP, own = threadIdx.x / WARP * ROWS, tile_rows = blockDim.x / WARP * ROWS;
    const u32 key_head = blockIdx.y, group = query_heads / key_heads, stride = dim | 1;
    const KeyTile tile = ((const KeyTile *)tiles)[blockIdx.x];
    float *keys = shared, *values = keys + tile_rows * dim, *streamed = values + tile_rows * dim;
    float *p_weights = streamed + WARP * stride + own * 2 * WARP, *ds_weights = p_weights + ROWS * WARP;
    load(keys, dim, k + key_head * dim, tile.first, tile.end, tile_rows, key_heads * dim, dim, scale);
    load(values, dim, v + key_head * dim, tile.first, tile.end, tile_rows, key_heads * dim, dim, 1.0f);
    float key_sums[ROWS][STRIPES], value_sums[ROWS][STRIPES];
    for (u32 r = 0; r < ROWS; ++r)
        for (u32 i = 0; i < STRIPES; ++i) key_sums[r][i] = value_sums[r][i] = 0.0f;
    for (u32 head = key_head * group; head < (key_head + 1) * group; ++head)
        for (u32 index = tile.spans_from; index < tile.spans_to; ++index) {
            const Span span = ((const Span *)spans)[index];
            for (u32 from = span.first; from < span.end; from += WARP) {
                const u32 count = min(WARP, span.end - from), query = from + lane;
                const u64 at = (u64)query * query_heads + head;
                float score[ROWS], dp[ROWS];
                __syncthreads();
                load(streamed, stride, q + head * dim, from, span.end, WARP, query_heads * dim, dim, 1.0f);
                __syncthreads();
                dot(score, keys + own * dim, streamed + lane * stride, dim);
                __syncthreads();
                load(streamed, stride, grad + head * dim, from, span.end, WARP, query_heads * dim, dim, 1.0f);
                __syncthreads();
                dot(dp, values + own * dim, streamed + lane * stride, dim);
                const float query_lse = query < span.end ? lse[at] : 0.0f;
                const float query_delta = query < span.end ? delta[at] : 0.0f;
                for (u32 r = 0; r < ROWS; ++r) {
                    const u32 key = tile.first + own + r;
                    const bool seen = query < span.end && key <= query && key < tile.end;
                    const float p = seen ? expf(score[r] - query_lse) : 0.0f;
                    p_weights[r * WARP + lane] = p;
                    ds_weights[r * WARP + lane] = p * (dp[r] - query_delta);
                }
                __syncwarp();
                accumulate<STRIPES>(value_sums, p_weights, streamed, stride, count, dim);
                // Load the queries again: for wide heads, queries and gradients do not fit into
                // shared memory together.
                __syncthreads();
                load(streamed, stride, q + head * dim, from, span.end, WARP, query_heads * dim, dim, 1.0f);
                __syncthreads();
                accumulate<STRIPES>(key_sums, ds_weights, streamed, stride, count, dim);
            }
        }
    for (u32 r = 0; r < ROWS; ++r) {
        const u32 row = tile.first + own + r;
        if (row >= tile.end) continue;
        const u64 at = ((u64)row * key_heads + key_head) * dim;
        store_row<T, STRIPES>(dk + at, key_sums[r], scale, dim);
        store_row<T, STRIPES>(dv + at, value_sums[r], 1.0f, dim);
    }
}

#define ENTRIES(T, suffix, STRIPES, WARPS, BLOCKS)                                                                     \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)                                                   \
        attention_forward_##suffix(T *y, float *lse, const T *q, const T *k, const T *v, const u32 *tiles,             \
                                   u32 query_heads, u32 key_heads, u32 dim, float scale) {                             \
        attention_forward<T, STRIPES>(y, lse, q, k, v, tiles, query_heads, key_heads, dim, scale);                     \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)                                                   \
        attention_backward_queries_##suffix(T *dq, const T *q, const T *k, const T *v, const T *grad,                  \
                                            const float *lse, const float *delta, const u32 *tiles,                    \
                                            u32 query_heads, u32 key_heads, u32 dim, float scale) {                    \
        attention_backward_queries<T, STRIPES>(dq, q, k, v, grad, lse, delta, tiles, query_heads, key_heads, dim,      \
                                               scale);                                                                 \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)                                                   \
        attention_backward_keys_##suffix(T *dk, T *dv, const T *q, const T *k, const T *v, const T *grad,              \
                                         const float *lse, const float *delta, const u32 *tiles, const u32 *spans,     \
                                         u32 query_heads, u32 key_heads, u32 dim, float scale) {                       \
        attention_backward_keys<T, STRIPES>(dk, dv, q, k, v, grad, lse, delta, tiles, spans, query_heads,              \
                                            key_heads, dim, scale);                                                    \
    }

// WARPS as in src/attention/plan.rs. With BLOCKS resident blocks per multiprocessor, each thread
// has enough registers.
ENTRIES(float, 64_f32, 2, 8, 4)
ENTRIES(float, 128_f32, 4, 4, 8)
ENTRIES(float, 256_f32, 8, 1, 16)
ENTRIES(bf16, 64_bf16, 2, 8, 4)
ENTRIES(bf16, 128_bf16, 4, 4, 8)
ENTRIES(bf16, 256_bf16, 8, 1, 16)
#undef ENTRIES

extern "C" __global__ void attention_delta_f32(float *delta, const float *grad, const float *y, u64 heads, u32 dim) {
    attention_delta(delta, grad, y, heads, dim);
}

extern "C" __global__ void attention_delta_bf16(float *delta, const bf16 *grad, const bf16 *y, u64 heads, u32 dim) {
    attention_delta(delta, grad, y, heads, dim);
}
