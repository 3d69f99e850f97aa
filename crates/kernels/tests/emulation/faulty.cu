// Faults that the emulator must detect, one per kernel. Each kernel sums the block's elements into `y`.

extern "C" __global__ void correct(float *y, const float *x) {
    SHARED_MEMORY(shared);
    shared[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x > 0) return;
    float sum = 0.0f;
    for (u32 i = 0; i < blockDim.x; ++i) sum += shared[i];
    *y = sum;
}

extern "C" __global__ void reads_before_all_have_written(float *y, const float *x) {
    SHARED_MEMORY(shared);
    shared[threadIdx.x] = x[threadIdx.x];
    if (threadIdx.x > 0) return;
    float sum = 0.0f;
    for (u32 i = 0; i < blockDim.x; ++i) sum += shared[i];
    *y = sum;
}

extern "C" __global__ void writes_before_all_have_read(float *y, const float *x) {
    SHARED_MEMORY(shared);
    float sum = 0.0f;
    for (u32 round = 0; round < 2; ++round) {
        const float part = warp_sum(round * x[threadIdx.x]);
        if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = part;
        __syncthreads();
        sum = 0.0f;
        for (u32 warp = 0; warp < blockDim.x / WARP; ++warp) sum += shared[warp];
        y[0] += sum;
    }
}

extern "C" __global__ void leaves_a_barrier_out(float *y, const float *x) {
    const float sum = block_sum(x[threadIdx.x], shim::shared_memory);
    if (threadIdx.x > 40) return;
    __syncthreads();
    *y = sum;
}

extern "C" __global__ void waits_at_two_barriers(float *y, const float *x) {
    const float sum = block_sum(x[threadIdx.x], shim::shared_memory);
    if (threadIdx.x % 2 == 0)
        __syncthreads();
    else
        __syncthreads();
    *y = sum;
}

extern "C" __global__ void writes_beyond_shared_memory(float *y, const float *x) {
    SHARED_MEMORY(shared);
    shared[threadIdx.x + 1] = x[threadIdx.x];
    *y = 0.0f;
}

extern "C" __global__ void reads_beyond_a_buffer(float *y, const float *x) { *y = x[threadIdx.x + 1]; }

extern "C" __global__ void depends_on_the_order(float *y, const float *x) { *y = x[threadIdx.x]; }
