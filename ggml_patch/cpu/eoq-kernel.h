#pragma once

// What the kernels share: which of them the compiler's flags allow, blocks as bytes, how a product is cut into columns.

#include "eoq-block.h"
#include "ggml-eoq.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#    include <immintrin.h>
#    define EOQ_AVX2
#    if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
        defined(__AVX512VNNI__)
#        define EOQ_AVX512_VNNI
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

// rotated values smaller than this are zero (docs/format.md, section 6)
#define EOQ_SMALLEST_ACTIVATION 0x1p-100f

// a block of activations: float scale, int32 sum, bytes
enum { EOQ_ACTIVATION_HEADER = 8 };

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

// weight of a level of 1 in a block of weights, before the transform
EOQ_INLINE float eoq_unit(const uint8_t * block) {
    uint16_t d;
    memcpy(&d, block, sizeof(d));
#if defined(__F16C__)
    return _cvtsh_ss(d) * EOQ_LEVEL_UNIT;
#elif defined(EOQ_NEON)
    __fp16 half;
    memcpy(&half, &d, sizeof(half));
    return (float) half * EOQ_LEVEL_UNIT;
#else
    return eoq_scale_to_float(d) * EOQ_LEVEL_UNIT;
#endif
}

// ggml_eoq_mul_mat_<t> from eoq_many_columns, for `many_from` columns and more (at most EOQ_MANY_COLUMNS at a time), and
// eoq_few_columns, which takes up to EOQ_FEW_COLUMNS
#define EOQ_DEFINE_MUL_MAT_OF(t, bits, width, many_from)                                                   \
    void ggml_eoq_mul_mat_##t(int64_t k, const void * weights, size_t row_bytes, int64_t n_rows,           \
                              const void * const * columns, float * const * out, int64_t n_columns) {      \
        assert(k % (width) == 0);                                                                          \
        const uint8_t *         w = (const uint8_t *) weights;                                             \
        const uint8_t * const * y = (const uint8_t * const *) columns;                                     \
        const int8_t *          l = eoq##bits##_levels;                                                    \
        for (int64_t c = 0; c < n_columns;) {                                                              \
            const int64_t left = n_columns - c;                                                            \
            int           n    = 1;                                                                        \
            if (left >= (many_from)) {                                                                     \
                n = left < EOQ_MANY_COLUMNS ? (int) left : EOQ_MANY_COLUMNS;                               \
                eoq_many_columns(k, w, row_bytes, n_rows, y + c, out + c, n, bits, width, l);              \
            } else if (left >= EOQ_FEW_COLUMNS) {                                                          \
                n = EOQ_FEW_COLUMNS;                                                                       \
                eoq_few_columns(k, w, row_bytes, n_rows, y + c, out + c, EOQ_FEW_COLUMNS, bits, width, l); \
            } else {                                                                                       \
                eoq_few_columns(k, w, row_bytes, n_rows, y + c, out + c, 1, bits, width, l);               \
            }                                                                                              \
            c += n;                                                                                        \
        }                                                                                                  \
    }
