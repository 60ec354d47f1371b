#pragma once

// Dot products of mmvq.cu: 32 codes of a block a thread. Included there, behind vecdotq.cuh.

#include "eoq-device.cuh"

// a block's rotated activations in q8_1 blocks of 32
struct eoq_q8_1_activations {
    const block_q8_1 * blocks;

    __device__ __forceinline__ uint32_t word(int j) const {
        return (uint32_t) get_int_b4(blocks[j / QI8_1].qs, j % QI8_1);
    }

    __device__ __forceinline__ float scale(int j) const { return __low2float(blocks[j].ds); }
};

template <int bits, int width>
static __device__ __forceinline__ float vec_dot_eoq_q8_1(const void * __restrict__ vbq,
                                                         const block_q8_1 * __restrict__ bq8_1,
                                                         const int & kbx,
                                                         const int & iqs) {
    const uint8_t *            block = (const uint8_t *) vbq + (int64_t) kbx * eoq_layout<bits, width>::block_bytes;
    const eoq_q8_1_activations y     = { bq8_1 };
    return eoq_block_scale(__half2float(*(const half *) block)) * eoq_lane_dot<bits, width>(block, iqs, y);
}
