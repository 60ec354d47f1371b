#pragma once

// EOQ tensor types: rotated blocks of Lloyd-Max codes or of trellis codes. The byte-exact specification is docs/format.md.
//
// This header serves two builds: inside ggml (the default), and the stand-alone library of this project
// (EOQ_STANDALONE), which has the same kernels without ggml.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef EOQ_STANDALONE
#    define GGML_API extern
#    define GGML_RESTRICT
#else
#    include "ggml.h"
#endif

// clang-format off

// a code of b bits by itself is `b`, one of a trellis EOQ_TRELLIS + b
#define EOQ_TRELLIS          16
#define EOQ_BITS(code)       ((code) & 15)
#define EOQ_IS_TRELLIS(code) ((code) >= EOQ_TRELLIS)

// X(TYPE, name, code, width, ACTIVATION_TYPE, activation_name): the weight types, once
#define GGML_EOQ_SCALAR_TYPES(X)                      \
    X(EOQ2,    eoq2,    2, 128, Q8_EOQ,    q8_eoq)    \
    X(EOQ3,    eoq3,    3, 128, Q8_EOQ,    q8_eoq)    \
    X(EOQ4,    eoq4,    4, 128, Q8_EOQ,    q8_eoq)    \
    X(EOQ5,    eoq5,    5, 128, Q8_EOQ,    q8_eoq)    \
    X(EOQ6,    eoq6,    6, 128, Q8_EOQ,    q8_eoq)    \
    X(EOQ2_64, eoq2_64, 2,  64, Q8_EOQ_64, q8_eoq_64) \
    X(EOQ3_64, eoq3_64, 3,  64, Q8_EOQ_64, q8_eoq_64) \
    X(EOQ4_64, eoq4_64, 4,  64, Q8_EOQ_64, q8_eoq_64) \
    X(EOQ5_64, eoq5_64, 5,  64, Q8_EOQ_64, q8_eoq_64) \
    X(EOQ6_64, eoq6_64, 6,  64, Q8_EOQ_64, q8_eoq_64)

#define GGML_EOQ_TRELLIS_TYPES(X)                                           \
    X(EOQ2T,     eoq2t,     EOQ_TRELLIS + 2, 256, Q8_EOQ_256, q8_eoq_256)   \
    X(EOQ3T,     eoq3t,     EOQ_TRELLIS + 3, 256, Q8_EOQ_256, q8_eoq_256)   \
    X(EOQ4T,     eoq4t,     EOQ_TRELLIS + 4, 256, Q8_EOQ_256, q8_eoq_256)   \
    X(EOQ5T,     eoq5t,     EOQ_TRELLIS + 5, 256, Q8_EOQ_256, q8_eoq_256)   \
    X(EOQ2T_128, eoq2t_128, EOQ_TRELLIS + 2, 128, Q8_EOQ,     q8_eoq)       \
    X(EOQ3T_128, eoq3t_128, EOQ_TRELLIS + 3, 128, Q8_EOQ,     q8_eoq)       \
    X(EOQ4T_128, eoq4t_128, EOQ_TRELLIS + 4, 128, Q8_EOQ,     q8_eoq)       \
    X(EOQ5T_128, eoq5t_128, EOQ_TRELLIS + 5, 128, Q8_EOQ,     q8_eoq)       \
    X(EOQ2T_64,  eoq2t_64,  EOQ_TRELLIS + 2,  64, Q8_EOQ_64,  q8_eoq_64)    \
    X(EOQ3T_64,  eoq3t_64,  EOQ_TRELLIS + 3,  64, Q8_EOQ_64,  q8_eoq_64)    \
    X(EOQ4T_64,  eoq4t_64,  EOQ_TRELLIS + 4,  64, Q8_EOQ_64,  q8_eoq_64)    \
    X(EOQ5T_64,  eoq5t_64,  EOQ_TRELLIS + 5,  64, Q8_EOQ_64,  q8_eoq_64)

#define GGML_EOQ_WEIGHT_TYPES(X) \
    GGML_EOQ_SCALAR_TYPES(X)     \
    GGML_EOQ_TRELLIS_TYPES(X)

// X(TYPE, name, width): the activation types, never in a file
#define GGML_EOQ_ACTIVATION_TYPES(X) \
    X(Q8_EOQ,     q8_eoq,     128)   \
    X(Q8_EOQ_64,  q8_eoq_64,   64)   \
    X(Q8_EOQ_256, q8_eoq_256, 256)

// clang-format on

#define QK_EOQ     128
#define QK_EOQ_64  64
#define QK_EOQ_256 256
#define QK_EOQ_MAX 256

// weights of a block: sign[i] * WHT(levels)[i] * d * 2^-12
// effectively bits + 0.0625 (width 256), bits + 0.125 (128) or bits + 0.25 (64) bits per weight
#define GGML_EOQ_BLOCK(T, t, code, width, A, a)                      \
    typedef struct {                                                 \
        uint16_t d;                                /* scale, fp16 */ \
        uint8_t  qs[EOQ_BITS(code) * (width) / 8]; /* code planes */ \
    } block_##t;
GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_BLOCK)
#undef GGML_EOQ_BLOCK

// rotated activations, 8 bits
#define GGML_EOQ_ACTIVATION_BLOCK(T, t, width)         \
    typedef struct {                                   \
        float   d;         /* scale */                 \
        int32_t s;         /* sum of qs */             \
        int8_t  qs[width]; /* rotated values over d */ \
    } block_##t;
GGML_EOQ_ACTIVATION_TYPES(GGML_EOQ_ACTIVATION_BLOCK)
#undef GGML_EOQ_ACTIVATION_BLOCK

#ifdef __cplusplus
#    define EOQ_STATIC_ASSERT static_assert
extern "C" {
#else
#    define EOQ_STATIC_ASSERT _Static_assert
#endif

#define GGML_EOQ_SIZE_CHECK(T, t, code, width, A, a) \
    EOQ_STATIC_ASSERT(sizeof(block_##t) == 2 + EOQ_BITS(code) * (width) / 8, "wrong " #t " block size/padding");
GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_SIZE_CHECK)
#undef GGML_EOQ_SIZE_CHECK
#define GGML_EOQ_SIZE_CHECK(T, t, width) \
    EOQ_STATIC_ASSERT(sizeof(block_##t) == 8 + (width), "wrong " #t " block size/padding");
GGML_EOQ_ACTIVATION_TYPES(GGML_EOQ_SIZE_CHECK)
#undef GGML_EOQ_SIZE_CHECK

// quantize_row_<t>_ref: k values (a multiple of the width) into k/width blocks
// dequantize_row_<t>:   the reverse, true (unrotated) weights
// quantize_<t>:         nrows rows, the signature of ggml_quantize_chunk; returns the bytes written
#define GGML_EOQ_DECLARE(T, t, code, width, A, a)                                                                  \
    GGML_API void   quantize_row_##t##_ref(const float * GGML_RESTRICT x, block_##t * GGML_RESTRICT y, int64_t k); \
    GGML_API void   dequantize_row_##t(const block_##t * GGML_RESTRICT x, float * GGML_RESTRICT y, int64_t k);     \
    GGML_API size_t quantize_##t(const float * GGML_RESTRICT src, void * GGML_RESTRICT dst, int64_t nrows,         \
                                 int64_t n_per_row, const float * imatrix);
GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_DECLARE)
#undef GGML_EOQ_DECLARE

// value of an fp16 scale, whatever the compiler offers for fp16
static inline float eoq_scale_to_float(uint16_t d) {
    const uint32_t sign     = (uint32_t) (d & 0x8000) << 16;
    const uint32_t exponent = d >> 10 & 0x1F;
    const uint32_t mantissa = d & 0x3FF;
    uint32_t       bits;
    float          value;
    if (exponent == 0) {
        value = (float) mantissa * 0x1p-24f;
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0x7F800000 : (exponent + 112) << 23) | mantissa << 13;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

#ifdef __cplusplus
}
#endif

#ifndef EOQ_STANDALONE

// clang-format off

// all weight types as case labels (no trailing colon on the last: write `GGML_EOQ_WEIGHT_CASES:`)
#    define GGML_EOQ_SCALAR_CASES                                                                     \
        case GGML_TYPE_EOQ2: case GGML_TYPE_EOQ3: case GGML_TYPE_EOQ4: case GGML_TYPE_EOQ5:           \
        case GGML_TYPE_EOQ6: case GGML_TYPE_EOQ2_64: case GGML_TYPE_EOQ3_64: case GGML_TYPE_EOQ4_64:  \
        case GGML_TYPE_EOQ5_64: case GGML_TYPE_EOQ6_64
#    define GGML_EOQ_TRELLIS_CASES                                                                      \
        case GGML_TYPE_EOQ2T: case GGML_TYPE_EOQ3T: case GGML_TYPE_EOQ4T: case GGML_TYPE_EOQ5T:         \
        case GGML_TYPE_EOQ2T_128: case GGML_TYPE_EOQ3T_128: case GGML_TYPE_EOQ4T_128:                   \
        case GGML_TYPE_EOQ5T_128: case GGML_TYPE_EOQ2T_64: case GGML_TYPE_EOQ3T_64:                     \
        case GGML_TYPE_EOQ4T_64: case GGML_TYPE_EOQ5T_64
#    define GGML_EOQ_WEIGHT_CASES GGML_EOQ_SCALAR_CASES: GGML_EOQ_TRELLIS_CASES

// clang-format on

static inline bool ggml_is_eoq(enum ggml_type type) {
    switch ((int) type) {
    GGML_EOQ_WEIGHT_CASES:
    case GGML_TYPE_Q8_EOQ:
    case GGML_TYPE_Q8_EOQ_64:
    case GGML_TYPE_Q8_EOQ_256:
        return true;
        default:
            return false;
    }
}

// for the supports_op of backends that have no EOQ kernels yet
static inline bool ggml_op_uses_eoq(const struct ggml_tensor * op) {
    if (ggml_is_eoq(op->type)) {
        return true;
    }
    for (int i = 0; i < GGML_MAX_SRC; ++i) {
        if (op->src[i] != NULL && ggml_is_eoq(op->src[i]->type)) {
            return true;
        }
    }
    return false;
}

#endif
