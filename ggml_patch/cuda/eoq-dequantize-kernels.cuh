#pragma once

// Unrotated weights: exact integers, then one multiplication (docs/format.md).

#include "eoq-arguments.cuh"
#include "eoq-warp.cuh"

// a lane's weights of a block, four or two times four
template <int code, int width>
static __device__ __forceinline__ void eoq_dequantize(const uint8_t * block, int lane, float * weights) {
    constexpr int values = eoq_group<code, width>::values;
    uint32_t      words[2];
    int32_t       v[8];
    eoq_group_levels<code, width>(block, lane, words);
    uint32_t signs = eoq_lane_signs<0>(lane);
    if constexpr (values == 8) {
        int32_t both[4];
        EOQ_UNROLLED
        for (int i = 0; i < 4; ++i) {
            both[i] = (int8_t) (words[0] >> (8 * i)) + 65536 * (int8_t) (words[1] >> (8 * i));
        }
        eoq_transform_halves<width>(both, lane, v);
        signs |= eoq_lane_signs<width == 256 ? 1 : 0>(lane + width / 8) << 4;
    } else {
        EOQ_UNROLLED
        for (int i = 0; i < 4; ++i) {
            v[i] = (int8_t) (words[0] >> (8 * i));
        }
        eoq_transform<width>(v, lane);
    }
    const float scale = eoq_block_scale(__half2float(*(const half *) block));
    EOQ_UNROLLED
    for (int i = 0; i < values; ++i) {
        weights[i] = eoq_weight(v[i], signs >> i & 1, scale);
    }
}

template <int code, int width, typename dst_t>
static __device__ __forceinline__ void eoq_store_weights(const float * weights, int lane, dst_t * block) {
    EOQ_UNROLLED
    for (int i = 0; i < eoq_group<code, width>::values; ++i) {
        block[i / 4 * (width / 2) + 4 * lane + i % 4] = ggml_cuda_cast<dst_t>(weights[i]);
    }
}

template <int code, int width, typename dst_t>
static __global__ void eoq_dequantize_row(const void * __restrict__ x, dst_t * __restrict__ y, const int64_t n_blocks) {
    typedef eoq_group<code, width> group;
    const int64_t                  ib        = ((int64_t) blockDim.x * blockIdx.x + threadIdx.x) / group::lanes;
    // where a warp has several blocks, the last one may have some too many: it helps with the shuffles
    const bool                     is_inside = ib < n_blocks;
    const int                      lane      = threadIdx.x % group::lanes;
    const uint8_t *                block =
        (const uint8_t *) x + (is_inside ? ib : n_blocks - 1) * eoq_block_shape<code, width>::block_bytes;
    float weights[group::values];
    eoq_dequantize<code, width>(block, lane, weights);
    if (is_inside) {
        eoq_store_weights<code, width>(weights, lane, y + ib * width);
    }
}

// rows of src1 in grid.x, pieces of rows in grid.y, matrices in grid.z
template <int code, int width, typename dst_t>
static __global__ void eoq_get_rows(const void * __restrict__ src0,
                                    const int32_t * __restrict__ src1,
                                    dst_t * __restrict__ dst,
                                    const eoq_fetch fetch) {
    constexpr int lanes    = eoq_group<code, width>::lanes;
    const int64_t n_blocks = fetch.ne00 / width;
    const int     lane     = threadIdx.x % lanes;
    const int     group    = threadIdx.x / lanes;
    const int     groups   = blockDim.x / lanes;

    for (uint32_t z = blockIdx.z; z < (uint32_t) (fetch.ne11 * fetch.ne12); z += gridDim.z) {
        const int64_t   i10   = blockIdx.x;
        const int64_t   i11   = z / (uint32_t) fetch.ne12;
        const int64_t   i12   = z % (uint32_t) fetch.ne12;
        const char *    index = (const char *) src1 + i10 * fetch.nb10 + i11 * fetch.nb11 + i12 * fetch.nb12;
        const int64_t   i01   = *(const int32_t *) index;
        const uint8_t * row   = (const uint8_t *) src0 + i01 * fetch.nb01 + i11 * fetch.nb02 + i12 * fetch.nb03;
        dst_t *         to    = (dst_t *) ((char *) dst + i10 * fetch.nb1 + i11 * fetch.nb2 + i12 * fetch.nb3);
        // all lanes of a warp stay in the loop for the shuffles
        for (int64_t first = (int64_t) blockIdx.y * groups; first < n_blocks; first += (int64_t) gridDim.y * groups) {
            const int64_t ib        = first + group;
            const bool    is_inside = ib < n_blocks;
            float         weights[eoq_group<code, width>::values];
            eoq_dequantize<code, width>(
                row + (is_inside ? ib : n_blocks - 1) * eoq_block_shape<code, width>::block_bytes, lane, weights);
            if (is_inside) {
                eoq_store_weights<code, width>(weights, lane, to + ib * width);
            }
        }
    }
}
