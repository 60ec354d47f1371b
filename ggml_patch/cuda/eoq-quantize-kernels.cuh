#pragma once

// Activations to 8 bits with the rotation on the way: one warp a block of 128 values, or two blocks of 64. Included
// behind mmq.cuh, whose blocks they write.

#include "eoq-arguments.cuh"
#include "eoq-warp.cuh"

// Four values at `from` as bytes with a scale for each 32, eight lanes. A block whose largest value is 0 gets the scale 0.
template <int width>
static __device__ __forceinline__ char4
eoq_rotate_and_quantize(const float * from, bool is_inside, int lane, float & d) {
    const float4 x    = is_inside ? *(const float4 *) from : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    float        v[4] = { x.x, x.y, x.z, x.w };
    eoq_rotate<width>(v, lane);
    float amax = fmaxf(fmaxf(fabsf(v[0]), fabsf(v[1])), fmaxf(fabsf(v[2]), fabsf(v[3])));
    EOQ_UNROLLED
    for (int distance = 4; distance > 0; distance /= 2) {
        amax = fmaxf(amax, __shfl_xor_sync(0xFFFFFFFF, amax, distance, 32));
    }
    const float inverse = amax > 0.0f ? 127.0f / amax : 0.0f;
    d                   = amax / 127.0f;
    return make_char4(roundf(v[0] * inverse), roundf(v[1] * inverse), roundf(v[2] * inverse), roundf(v[3] * inverse));
}

// ne2 as fastdiv takes it
template <int width>
static __global__ void eoq_quantize_q8_1(const eoq_activation_rows rows, const uint3 ne2, void * vy_ptr) {
    ggml_cuda_pdl_lc();
    const float * GGML_CUDA_RESTRICT x = rows.x;
    block_q8_1 * GGML_CUDA_RESTRICT  y = (block_q8_1 *) vy_ptr;

    // ne0 is a multiple of the values of a block of threads: all lanes of a warp are here or none
    const int64_t i0 = ((int64_t) blockDim.x * blockIdx.x + threadIdx.x) * 4;
    if (i0 >= rows.ne0) {
        return;
    }
    const int64_t i3 = fastdiv(blockIdx.z, ne2);
    const int64_t i2 = blockIdx.z - i3 * ne2.z;
    const int64_t i1 = blockIdx.y;

    ggml_cuda_pdl_sync();
    float       d;
    const char4 q = eoq_rotate_and_quantize<width>(x + i3 * rows.s03 + i2 * rows.s02 + i1 * rows.s01 + i0,
                                                   i0 < rows.ne00, threadIdx.x % (width / 4), d);

    const int64_t i                  = ((i3 * ne2.z + i2) * rows.ne1 + i1) * rows.ne0 + i0;
    block_q8_1 &  to                 = y[i / QK8_1];
    ((char4 *) to.qs)[i % QK8_1 / 4] = q;
    if (i % QK8_1 == 0) {
        to.ds = make_half2(d, 0.0f);
    }
}

static __device__ __forceinline__ void eoq_store_mmq(block_q8_1_mmq * y,
                                                     int64_t          ib,
                                                     int64_t          i0,
                                                     const char4      q,
                                                     const float      d) {
    const int iqs                 = i0 % QK8_1_MMQ;
    ((char4 *) y[ib].qs)[iqs / 4] = q;
    if (iqs % QK8_1 == 0) {
        y[ib].d4[iqs / QK8_1] = d;
    }
}

// one row a block of threads in x; with ids, the row that they name
template <int width>
static __global__ void eoq_quantize_mmq_q8_1(const eoq_activation_rows rows,
                                             const int32_t * __restrict__ ids,
                                             void * __restrict__ vy) {
    const int64_t i0 = ((int64_t) blockDim.x * blockIdx.y + threadIdx.x) * 4;
    if (i0 >= rows.ne0) {
        return;
    }
    ggml_cuda_pdl_sync();
    const int64_t i1  = ids ? ids[blockIdx.x] : blockIdx.x;
    const int64_t row = blockIdx.z / rows.ne2 * rows.s03 + blockIdx.z % rows.ne2 * rows.s02 + i1 * rows.s01;
    float         d;
    const char4   q  = eoq_rotate_and_quantize<width>(rows.x + row + i0, i0 < rows.ne00, threadIdx.x % (width / 4), d);
    const int64_t ib = blockIdx.z * (rows.ne1 * (rows.ne0 / QK8_1_MMQ)) + i0 / QK8_1_MMQ * rows.ne1 + blockIdx.x;
    eoq_store_mmq((block_q8_1_mmq *) vy, ib, i0, q, d);
}

// one token a block of threads in x, quantised once, written to all rows of the token
template <int width>
static __global__ void eoq_quantize_scatter_mmq_q8_1(const eoq_activation_rows rows,
                                                     const int32_t * __restrict__ row_of_slot,
                                                     void * __restrict__ vy,
                                                     const int64_t nrows_dst,
                                                     const int     n_expert_used) {
    const int64_t i0 = ((int64_t) blockDim.x * blockIdx.y + threadIdx.x) * 4;
    if (i0 >= rows.ne0) {
        return;
    }
    ggml_cuda_pdl_sync();
    float       d;
    const char4 q = eoq_rotate_and_quantize<width>(rows.x + (int64_t) blockIdx.x * rows.s01 + i0, i0 < rows.ne00,
                                                   threadIdx.x % (width / 4), d);
    for (int slot = 0; slot < n_expert_used; ++slot) {
        const int64_t row = row_of_slot[(int64_t) blockIdx.x * n_expert_used + slot];
        eoq_store_mmq((block_q8_1_mmq *) vy, i0 / QK8_1_MMQ * nrows_dst + row, i0, q, d);
    }
}
