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

template <int code, int width>
static __device__ __forceinline__ float vec_dot_eoq_q8_1(const void * __restrict__ vbq,
                                                         const block_q8_1 * __restrict__ bq8_1,
                                                         const int & kbx,
                                                         const int & iqs) {
    const uint8_t * block = (const uint8_t *) vbq + (int64_t) kbx * eoq_block_shape<code, width>::block_bytes;
    const float     scale = eoq_block_scale(__half2float(*(const half *) block));
    if constexpr (width == 256) {
        const eoq_q8_256 & y        = *(const eoq_q8_256 *) bq8_1;
        const uint32_t     head     = y.heads[iqs];
        const int4         first    = *(const int4 *) (y.qs + 16 * iqs);
        const int4         second   = *(const int4 *) (y.qs + 128 + 16 * iqs);
        const uint32_t     words[8] = {
            (uint32_t) first.x,  (uint32_t) first.y,  (uint32_t) first.z,  (uint32_t) first.w,
            (uint32_t) second.x, (uint32_t) second.y, (uint32_t) second.z, (uint32_t) second.w
        };
        half2 ds;
        memcpy(&ds, &head, sizeof(ds));
        const int32_t dot = eoq_lane_dot_256<code>(block, iqs, words, (int32_t) head >> 16);
        return scale * __low2float(ds) * (float) dot;
    } else {
        const eoq_q8_1_activations y = { bq8_1 };
        return scale * eoq_lane_dot<code, width>(block, iqs, y);
    }
}
