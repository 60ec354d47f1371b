#pragma once

// Tiles of mmq.cuh: levels as int8 and a scale for each 32 of them, the layout of Q8_0. Included there, behind
// mmq-load-tiles.cuh; the products are those of Q8_0.

#include "eoq-device.cuh"

template <ggml_type type> struct eoq_shape;
#define EOQ_SHAPE(T, t, ncode, nwidth, A, a)      \
    template <> struct eoq_shape<GGML_TYPE_##T> { \
        static constexpr int code  = ncode;       \
        static constexpr int width = nwidth;      \
    };
GGML_EOQ_WEIGHT_TYPES(EOQ_SHAPE)
#undef EOQ_SHAPE

template <ggml_type type, int J, bool fallback>
static __device__ __forceinline__ void ggml_cuda_mmq_load_tiles_eoq(const char * __restrict__ x,
                                                                    int * __restrict__ x_tile,
                                                                    const int kbx0,
                                                                    const int i_max,
                                                                    const int stride) {
    constexpr int                        code  = eoq_shape<type>::code;
    constexpr int                        width = eoq_shape<type>::width;
    typedef eoq_block_shape<code, width> shape;

    constexpr int warp_size = ggml_cuda_get_physical_warp_size();
    constexpr int nwarps    = ggml_cuda_mmq_get_nthreads(type, J, fallback) / warp_size;
    constexpr int I         = ggml_cuda_mmq_get_I(type, J, fallback);

    int * x_qs = x_tile;
#if defined(AMD_MFMA_AVAILABLE) || defined(TURING_MMA_AVAILABLE) || defined(AMD_WMMA_AVAILABLE)
    constexpr int qs_stride = ggml_cuda_mmq_get_sram_stride(type, J, fallback);
    float *       x_df      = (float *) (x_qs + 2 * MMQ_TILE_NE_K);
#else
    constexpr int          qs_stride = 2 * MMQ_TILE_NE_K + 1;
    constexpr tile_x_sizes txs       = mmq_get_dp4a_tile_x_sizes(GGML_TYPE_Q8_0, I);
    float *                x_df      = (float *) (x_qs + txs.qs);
#endif  // defined(AMD_MFMA_AVAILABLE) || defined(TURING_MMA_AVAILABLE) || defined(AMD_WMMA_AVAILABLE)

    // a thread has 32 codes of one block
    constexpr int threads_per_row = MMQ_ITER_K / EOQ_LANE_CODES;
    constexpr int rows_per_warp   = warp_size / threads_per_row;

    const int txi  = threadIdx.x % threads_per_row;
    const int kbx  = txi / shape::lanes;
    const int lane = txi % shape::lanes;

    EOQ_UNROLLED
    for (int i0 = 0; i0 < I; i0 += rows_per_warp * nwarps) {
        int i = i0 + threadIdx.y * rows_per_warp + threadIdx.x / threads_per_row;
        if (fallback) {
            i = min(i, i_max);
        }
        const uint8_t * block = (const uint8_t *) x + (int64_t) (kbx0 + i * stride + kbx) * shape::block_bytes;
        uint32_t        levels[8];
        eoq_lane_levels<code, width>(block, lane, levels);
        int * row = x_qs + i * qs_stride + kbx * (width / 4);
#if defined(TURING_MMA_AVAILABLE)
        if constexpr (width == 256) {
            // rows begin at multiples of 16 bytes, and so do halves of a lane's levels
            EOQ_UNROLLED
            for (int w = 0; w < 8; w += 4) {
                const int4 four = { (int) levels[w], (int) levels[w + 1], (int) levels[w + 2], (int) levels[w + 3] };
                *(int4 *) (row + eoq_lane_word<code, width>(lane, w)) = four;
            }
        } else
#endif  // defined(TURING_MMA_AVAILABLE)
        {
            EOQ_UNROLLED
            for (int w = 0; w < 8; ++w) {
                row[eoq_lane_word<code, width>(lane, w)] = (int) levels[w];
            }
        }
        const float scale = eoq_block_scale(__half2float(*(const half *) block));
#if defined(AMD_MFMA_AVAILABLE) || defined(TURING_MMA_AVAILABLE) || defined(AMD_WMMA_AVAILABLE)
        x_df[i * qs_stride + txi] = scale;
#else
        x_df[i * (2 * MMQ_TILE_NE_K / QI8_0) + i / (QI8_0 / 2) + txi] = scale;
#endif  // defined(AMD_MFMA_AVAILABLE) || defined(TURING_MMA_AVAILABLE) || defined(AMD_WMMA_AVAILABLE)
    }
}
