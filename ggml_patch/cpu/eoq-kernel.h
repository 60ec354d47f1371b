#pragma once

// What the kernels share: which of them the compiler's flags allow, and blocks as bytes.

#include "eoq-block.h"
#include "ggml-eoq.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) || defined(__F16C__)
#    include <immintrin.h>
#endif

#if defined(__AVX2__)
#    define EOQ_AVX2
#    if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
        defined(__AVX512VNNI__)
#        define EOQ_AVX512_VNNI
// vpdpbusd for 256 bits: in its own encoding, or in the one of AVX-512
#    elif defined(__AVXVNNI__)
#        define EOQ_AVX_VNNI
#        define EOQ_DPBUSD _mm256_dpbusd_avx_epi32
#    elif defined(__AVX512VNNI__) && defined(__AVX512VL__)
#        define EOQ_AVX_VNNI
#        define EOQ_DPBUSD _mm256_dpbusd_epi32
#    endif
#endif

#if defined(__ARM_NEON) && defined(__aarch64__)
#    include <arm_neon.h>
#    define EOQ_NEON
// for loops over vectors that should stay in registers
#    if defined(__clang__)
#        define EOQ_UNROLL _Pragma("clang loop unroll(full)")
#    else
#        define EOQ_UNROLL _Pragma("GCC unroll 16")
#    endif
#endif

#if defined(__GNUC__)
#    define EOQ_PREFETCH(address) __builtin_prefetch((const void *) (address))
#elif defined(EOQ_AVX2)
#    define EOQ_PREFETCH(address) _mm_prefetch((const char *) (address), _MM_HINT_T0)
#else
#    define EOQ_PREFETCH(address) ((void) (address))
#endif

// bytes to prefetch ahead: in a row, and in each of the rows of a tile (measured on x86)
enum { EOQ_ROW_AHEAD = 3072, EOQ_TILE_AHEAD = 256 };

// cache lines of a block `ahead` bytes behind this one; past the end of the weights that does no harm
EOQ_INLINE void eoq_prefetch(const uint8_t * block, size_t block_bytes, size_t ahead) {
    enum { CACHE_LINE = 64 };

    for (size_t at = 0; at < block_bytes; at += CACHE_LINE) {
        EOQ_PREFETCH((uintptr_t) block + ahead + at);
    }
}

// rotated values smaller than this are zero (docs/format.md, section 6)
#define EOQ_SMALLEST_ACTIVATION 0x1p-100f

// a block of activations: float scale, int32 sum, bytes
enum { EOQ_ACTIVATION_HEADER = 8 };

EOQ_INLINE void eoq_store_activation_header(uint8_t * block, float d, int32_t s) {
    memcpy(block, &d, sizeof(d));
    memcpy(block + 4, &s, sizeof(s));
}

EOQ_INLINE float eoq_activation_scale(const uint8_t * block) {
    float d;
    memcpy(&d, block, sizeof(d));
    return d;
}

// `factor` times the sum of the activations; a damaged block's sum may be anything, so the product wraps around
EOQ_INLINE int32_t eoq_activation_sum_times(const uint8_t * block, int32_t factor) {
    uint32_t s;
    memcpy(&s, block + 4, sizeof(s));
    return (int32_t) (s * (uint32_t) factor);
}

// scale of a block of weights; a level is worth EOQ_LEVEL_UNIT times that, before the transform
EOQ_INLINE float eoq_scale(const uint8_t * block) {
#if defined(__F16C__)
    // with three more values, which are codes: converting them is cheaper than keeping them out
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *) block)));
#elif defined(EOQ_NEON)
    __fp16 half;
    memcpy(&half, block, sizeof(half));
    return (float) half;
#else
    uint16_t d;
    memcpy(&d, block, sizeof(d));
    return eoq_scale_to_float(d);
#endif
}
