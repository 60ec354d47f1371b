#pragma once

// A warp on the CPU: 32 threads that wait for each other at every shuffle. And as much of CUDA and of ggml-cuda's
// common headers as the kernels of ggml_patch/cuda use, so that these compile here as they are.

#include "eoq-block.h"
#include "ggml-eoq.h"

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline

#define GGML_UNUSED(x)     (void) (x)
#define GGML_CUDA_RESTRICT __restrict__

struct uint3 {
    uint32_t x, y, z;
};

struct float4 {
    float x, y, z, w;
};

struct char4 {
    int8_t x, y, z, w;
};

static inline float4 make_float4(float x, float y, float z, float w) {
    return { x, y, z, w };
}

static inline char4 make_char4(float x, float y, float z, float w) {
    return { (int8_t) x, (int8_t) y, (int8_t) z, (int8_t) w };
}

static inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float __uint_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

struct alignas(16) int4 {
    int x, y, z, w;
};

struct half {
    uint16_t bits;
};

struct half2 {
    half low, high;
};

static inline float __half2float(half h) {
    return eoq_scale_to_float(h.bits);
}

// scales are not negative
static inline half2 make_half2(float low, float high) {
    return { { eoq_scale_to_fp16(low) }, { eoq_scale_to_fp16(high) } };
}

static inline float __low2float(half2 h) {
    return __half2float(h.low);
}

template <typename to_t, typename from_t> static inline to_t ggml_cuda_cast(from_t value) {
    return (to_t) value;
}

using std::min;

// ---- threads

inline thread_local uint3 threadIdx, blockIdx;
inline uint3              blockDim, gridDim;

inline std::barrier<> warp_barrier(32);
inline uint32_t       warp_exchange[32];

template <typename number> static inline number __shfl_xor_sync(uint32_t mask, number value, int distance, int width) {
    (void) mask, (void) width;
    const uint32_t lane = threadIdx.x % 32;
    memcpy(&warp_exchange[lane], &value, sizeof(value));
    warp_barrier.arrive_and_wait();
    memcpy(&value, &warp_exchange[lane ^ (uint32_t) distance], sizeof(value));
    warp_barrier.arrive_and_wait();
    return value;
}

static inline void ggml_cuda_pdl_lc() {}

static inline void ggml_cuda_pdl_sync() {}

// runs a kernel, one warp after the other; blocks of threads are lines or, with y, warps of 32 beside each other
static inline void launch(uint3 grid, uint3 block, const std::function<void()> & kernel) {
    gridDim  = grid;
    blockDim = block;
    std::vector<std::thread> lanes;
    for (uint32_t lane = 0; lane < 32; ++lane) {
        lanes.emplace_back([=, &kernel] {
            for (uint32_t z = 0; z < grid.z; ++z) {
                for (uint32_t y = 0; y < grid.y; ++y) {
                    for (uint32_t x = 0; x < grid.x; ++x) {
                        for (uint32_t warp = 0; warp < block.x / 32 * block.y; ++warp) {
                            blockIdx  = { x, y, z };
                            threadIdx = { warp % (block.x / 32) * 32 + lane, warp / (block.x / 32), 0 };
                            kernel();
                        }
                    }
                }
            }
        });
    }
    for (std::thread & lane : lanes) {
        lane.join();
    }
}

// ---- ggml-cuda

static inline uint3 init_fastdiv_values(uint32_t d) {
    return { 0, 0, d };
}

static inline uint32_t fastdiv(uint32_t n, uint3 values) {
    return n / values.z;
}

enum { QK8_1 = 32, QI8_1 = 8, QI8_0 = 8, QK8_1_MMQ = 128, MMQ_ITER_K = 256, MMQ_TILE_NE_K = 32 };

struct block_q8_1 {
    half2  ds;
    int8_t qs[QK8_1];
};

struct block_q8_1_mmq {
    float  d4[4];
    int8_t qs[QK8_1_MMQ];
};

static inline int get_int_b4(const void * x, int i) {
    int word;
    memcpy(&word, (const uint8_t *) x + 4 * i, sizeof(word));
    return word;
}

#define EMULATED_TYPE(T, t, code, width, A, a) GGML_TYPE_##T,

enum ggml_type { GGML_EOQ_WEIGHT_TYPES(EMULATED_TYPE) GGML_TYPE_Q8_0, GGML_TYPE_COUNT };

#undef EMULATED_TYPE

struct tile_x_sizes {
    int qs, dm, sc;
};

// tiles of Q8_0 with 256 values a row; the strides are those of llama.cpp
static constexpr tile_x_sizes mmq_get_dp4a_tile_x_sizes(ggml_type, int I) {
    return { I * MMQ_TILE_NE_K * 2 + I, I * MMQ_TILE_NE_K * 2 / QI8_0 + I / (QI8_0 / 2), 0 };
}

static constexpr int ggml_cuda_get_physical_warp_size() {
    return 32;
}

static constexpr int ggml_cuda_mmq_get_nthreads(ggml_type, int, bool) {
    return 256;
}

static constexpr int ggml_cuda_mmq_get_I(ggml_type, int, bool) {
    return 64;
}

static constexpr int ggml_cuda_mmq_get_sram_stride(ggml_type, int, bool) {
    return 2 * MMQ_TILE_NE_K + 2 * MMQ_TILE_NE_K / QI8_0 + 4;
}
