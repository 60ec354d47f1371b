#pragma once

// Activations to 8 bits with the rotation on the way: a warp has one block of 256 or 128 values, or two blocks of 64.
// Included behind mmq.cuh, whose blocks they write.

#include "eoq-arguments.cuh"
#include "eoq-warp.cuh"

// values of a thread: four that follow one another or, with blocks of 256, two times four half a block apart
template <int width> EOQ_HD constexpr int eoq_thread_values() {
    return width == 256 ? 8 : 4;
}

// largest of `lanes` values side by side
template <int lanes> static __device__ __forceinline__ float eoq_largest(float value) {
    EOQ_UNROLLED
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFF, value, distance, 32));
    }
    return value;
}

static __device__ __forceinline__ float eoq_largest_of_four(const float * v) {
    return fmaxf(fmaxf(fabsf(v[0]), fabsf(v[1])), fmaxf(fabsf(v[2]), fabsf(v[3])));
}

static __device__ __forceinline__ void eoq_load_values(const float * from, bool is_inside, float * v) {
    const float4 x = is_inside ? *(const float4 *) from : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    v[0]           = x.x;
    v[1]           = x.y;
    v[2]           = x.z;
    v[3]           = x.w;
}

// A thread's part of a row: rotated, and as bytes with a scale for each 32, which are eight threads'. Where the largest
// value is 0, so is the scale.
template <int width> struct eoq_quants {
    int64_t i0;
    char4   q;
    float   d;

    __device__ __forceinline__ eoq_quants(const float * row, int64_t ne00, int64_t thread) : i0(4 * thread) {
        float v[4];
        eoq_load_values(row + i0, i0 < ne00, v);
        eoq_rotate<width>(v, (int) (thread % (width / 4)));
        const float amax    = eoq_largest<8>(eoq_largest_of_four(v));
        const float inverse = amax > 0.0f ? 127.0f / amax : 0.0f;
        d                   = amax / 127.0f;
        q = make_char4(roundf(v[0] * inverse), roundf(v[1] * inverse), roundf(v[2] * inverse), roundf(v[3] * inverse));
    }

    // y: blocks of the row
    __device__ __forceinline__ void store(block_q8_1 * y) const {
        block_q8_1 & to                   = y[i0 / QK8_1];
        ((char4 *) to.qs)[i0 % QK8_1 / 4] = q;
        if (i0 % QK8_1 == 0) {
            to.ds = make_half2(d, 0.0f);
        }
    }

    // y: first block of the row, whose blocks are `stride` apart
    __device__ __forceinline__ void store_mmq(block_q8_1_mmq * y, int64_t stride) const {
        block_q8_1_mmq & to        = y[i0 / QK8_1_MMQ * stride];
        const int        iqs       = i0 % QK8_1_MMQ;
        ((char4 *) to.qs)[iqs / 4] = q;
        if (iqs % QK8_1 == 0) {
            to.d4[iqs / QK8_1] = d;
        }
    }
};

// The same with a scale for each block of 256, a warp; values are in the order of eoq_q8_256.
template <> struct eoq_quants<256> {
    int64_t  block;
    int      lane;
    uint32_t q[2];
    int      total;
    float    d;

    __device__ __forceinline__ eoq_quants(const float * row, int64_t ne00, int64_t thread)
        : block(thread / 32), lane((int) (thread % 32)) {
        float         v[8];
        const int64_t i0 = 256 * block + 4 * lane;
        eoq_load_values(row + i0, i0 < ne00, v);
        eoq_load_values(row + i0 + 128, i0 < ne00, v + 4);
        eoq_rotate<256>(v, lane);
        const float amax    = eoq_largest<32>(fmaxf(eoq_largest_of_four(v), eoq_largest_of_four(v + 4)));
        const float inverse = amax > 0.0f ? 127.0f / amax : 0.0f;
        d                   = amax / 127.0f;
        q[0] = q[1] = 0;
        total       = 0;
        EOQ_UNROLLED
        for (int i = 0; i < 4; ++i) {
            const int low = (int) roundf(v[i] * inverse), high = (int) roundf(v[4 + i] * inverse);
            q[i / 2] |= ((uint32_t) (low & 0xFF) | (uint32_t) (high & 0xFF) << 8) << (16 * (i % 2));
            total += low + high;
        }
    }

    __device__ __forceinline__ void store_values(int8_t * qs) const {
        ((uint32_t *) qs)[0] = q[0];
        ((uint32_t *) qs)[1] = q[1];
    }

    __device__ __forceinline__ void store(block_q8_1 * y) const {
        eoq_q8_256 & to = ((eoq_q8_256 *) y)[block];
        store_values(to.qs + eoq_pair_slot(lane));
        // a lane of a product has the pairs of four lanes
        int sum = total + __shfl_xor_sync(0xFFFFFFFF, total, 8, 32);
        sum += __shfl_xor_sync(0xFFFFFFFF, sum, 16, 32);
        if (lane < 8) {
            const half2 scale = make_half2(d, 0.0f);
            uint32_t    head;
            memcpy(&head, &scale, sizeof(head));
            to.heads[lane] = (head & 0xFFFF) | (uint32_t) sum << 16;
        }
    }

    __device__ __forceinline__ void store_mmq(block_q8_1_mmq * y, int64_t stride) const {
        const int        slot = eoq_pair_slot(lane);
        block_q8_1_mmq & to   = y[(2 * block + slot / QK8_1_MMQ) * stride];
        store_values(to.qs + slot % QK8_1_MMQ);
        if (lane % 16 < QK8_1_MMQ / QK8_1) {
            to.d4[lane % 16] = d;
        }
    }
};

// ne2 as fastdiv takes it
template <int width>
static __global__ void eoq_quantize_q8_1(const eoq_activation_rows rows, const uint3 ne2, void * vy_ptr) {
    ggml_cuda_pdl_lc();
    const float * GGML_CUDA_RESTRICT x = rows.x;
    block_q8_1 * GGML_CUDA_RESTRICT  y = (block_q8_1 *) vy_ptr;

    // ne0 is a multiple of the values of a block of threads: all lanes of a warp are here or none
    const int64_t thread = (int64_t) blockDim.x * blockIdx.x + threadIdx.x;
    if (thread * eoq_thread_values<width>() >= rows.ne0) {
        return;
    }
    const int64_t i3 = fastdiv(blockIdx.z, ne2);
    const int64_t i2 = blockIdx.z - i3 * ne2.z;
    const int64_t i1 = blockIdx.y;

    ggml_cuda_pdl_sync();
    const eoq_quants<width> quants(x + i3 * rows.s03 + i2 * rows.s02 + i1 * rows.s01, rows.ne00, thread);
    quants.store(y + ((i3 * ne2.z + i2) * rows.ne1 + i1) * (rows.ne0 / QK8_1));
}

// one row a block of threads in x; with ids, the row that they name
template <int width>
static __global__ void eoq_quantize_mmq_q8_1(const eoq_activation_rows rows,
                                             const int32_t * __restrict__ ids,
                                             void * __restrict__ vy) {
    const int64_t thread = (int64_t) blockDim.x * blockIdx.y + threadIdx.x;
    if (thread * eoq_thread_values<width>() >= rows.ne0) {
        return;
    }
    ggml_cuda_pdl_sync();
    const int64_t           i1  = ids ? ids[blockIdx.x] : blockIdx.x;
    const int64_t           row = blockIdx.z / rows.ne2 * rows.s03 + blockIdx.z % rows.ne2 * rows.s02 + i1 * rows.s01;
    const eoq_quants<width> quants(rows.x + row, rows.ne00, thread);
    const int64_t           first = blockIdx.z * (rows.ne1 * (rows.ne0 / QK8_1_MMQ)) + blockIdx.x;
    quants.store_mmq((block_q8_1_mmq *) vy + first, rows.ne1);
}

// one token a block of threads in x, quantised once, written to all rows of the token
template <int width>
static __global__ void eoq_quantize_scatter_mmq_q8_1(const eoq_activation_rows rows,
                                                     const int32_t * __restrict__ row_of_slot,
                                                     void * __restrict__ vy,
                                                     const int64_t nrows_dst,
                                                     const int     n_expert_used) {
    const int64_t thread = (int64_t) blockDim.x * blockIdx.y + threadIdx.x;
    if (thread * eoq_thread_values<width>() >= rows.ne0) {
        return;
    }
    ggml_cuda_pdl_sync();
    const eoq_quants<width> quants(rows.x + (int64_t) blockIdx.x * rows.s01, rows.ne00, thread);
    for (int slot = 0; slot < n_expert_used; ++slot) {
        const int64_t row = row_of_slot[(int64_t) blockIdx.x * n_expert_used + slot];
        quants.store_mmq((block_q8_1_mmq *) vy + row, nrows_dst);
    }
}
