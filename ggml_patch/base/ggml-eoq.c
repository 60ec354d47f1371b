// Portable reference of the EOQ weight types; quantising to a trellis is in eoq-trellis.c. Section numbers refer to docs/format.md.
//
// Bytes must not depend on the compiler. Where a product feeds an addition it is exact (float by float in double,
// level by power-of-two multiple of an fp16 number in float), so that contraction to FMA changes nothing; no sum is
// reordered without -ffast-math, which ggml does not use.

#include "ggml-eoq.h"

#include "eoq-block.h"
#include "eoq-trellis.h"

#include <assert.h>

#define EOQ_GRID_TOLERANCE 0x1p-20f

// what distinguishes the scalar types
typedef struct {
    int             bits;
    int             width;
    const int8_t *  levels;
    const uint8_t * code_of;  // by floor(2 * value in level units) + 256
    double          factor;   // level units per standard deviation
} eoq_type;

static inline int eoq_nearest_code(const eoq_type * t, float v, float inverse) {
    float r = v * inverse;
    r       = r < -128.0f ? -128.0f : r;
    r       = r > 127.5f ? 127.5f : r;
    return t->code_of[(int) floorf(2.0f * r) + 256];
}

static inline float eoq_unit(const eoq_type * t, uint16_t d) {
    return eoq_scale_to_float(d) * ((float) t->width * EOQ_LEVEL_UNIT);
}

static inline void eoq_nearest_codes(const eoq_type * t, const float * v, uint16_t d, uint8_t * codes) {
    const float inverse = 1.0f / eoq_unit(t, d);
    for (int i = 0; i < t->width; ++i) {
        codes[i] = (uint8_t) eoq_nearest_code(t, v[i], inverse);
    }
}

// section 5.3: scale from the RMS, then refitted to the codes
static inline uint16_t eoq_fit(const eoq_type * t, const float * v, uint8_t * codes) {
    const double to_rotated = t->width * (double) EOQ_LEVEL_UNIT;
    double       terms[QK_EOQ];
    for (int i = 0; i < t->width; ++i) {
        terms[i] = (double) v[i] * (double) v[i];
    }
    uint16_t d = eoq_scale_to_fp16(sqrt(eoq_sum_by_halves(terms, t->width) / t->width) / t->factor / to_rotated);
    for (int refit = 0; d != 0; ++refit) {
        eoq_nearest_codes(t, v, d, codes);
        if (refit == EOQ_REFITS) {
            break;
        }
        int32_t squares = 0;
        for (int i = 0; i < t->width; ++i) {
            const int8_t level = t->levels[codes[i]];
            squares += level * level;
            terms[i] = (double) v[i] * (double) level;
        }
        d = eoq_scale_to_fp16(eoq_sum_by_halves(terms, t->width) / (double) squares / to_rotated);
    }
    return d;
}

// section 5.4: is the block some scale times levels already? Returns the scale, 0 if not
static inline uint16_t eoq_grid(const eoq_type * t, const float * v, float largest, uint8_t * codes) {
    const double to_rotated = t->width * (double) EOQ_LEVEL_UNIT;
    const int    n_levels   = 1 << t->bits;
    uint8_t      found[QK_EOQ];
    for (int top = n_levels - 1; top >= n_levels / 2; --top) {
        const uint16_t d = eoq_scale_to_fp16((double) largest / (double) t->levels[top] / to_rotated);
        if (d == 0) {
            continue;
        }
        const float unit    = eoq_unit(t, d);
        const float inverse = 1.0f / unit;
        int         i       = 0;
        for (; i < t->width; ++i) {
            found[i] = (uint8_t) eoq_nearest_code(t, v[i], inverse);
            if (fabsf(v[i] - (float) t->levels[found[i]] * unit) > EOQ_GRID_TOLERANCE * largest) {
                break;
            }
        }
        if (i == t->width) {
            memcpy(codes, found, (size_t) t->width);
            return d;
        }
    }
    return 0;
}

// section 2: a 4-bit or 2-bit plane, then a 1-bit plane for every bit that remains
static inline void eoq_pack(const eoq_type * t, const uint8_t * codes, uint8_t * qs) {
    const int low_bits  = eoq_low_plane_bits(t->bits);
    const int low_bytes = low_bits * t->width / 8;
    memset(qs, 0, (size_t) (t->bits * t->width / 8));
    for (int i = 0; i < t->width; ++i) {
        qs[i % low_bytes] |= (uint8_t) ((codes[i] & ((1 << low_bits) - 1)) << (low_bits * (i / low_bytes)));
        for (int bit = low_bits; bit < t->bits; ++bit) {
            qs[low_bytes + (bit - low_bits) * t->width / 8 + i / 8] |= (uint8_t) ((codes[i] >> bit & 1) << (i % 8));
        }
    }
}

static inline uint16_t eoq_quantize_block(const eoq_type * t, const float * x, uint8_t * qs) {
    float   v[QK_EOQ];
    uint8_t codes[QK_EOQ];
    if (!eoq_rotate_weights(x, t->width, v)) {
        memset(qs, 0, (size_t) (t->bits * t->width / 8));
        return EOQ_NOT_A_NUMBER;
    }

    float largest = 0.0f;
    for (int i = 0; i < t->width; ++i) {
        largest = fabsf(v[i]) > largest ? fabsf(v[i]) : largest;
    }
    uint16_t d = eoq_grid(t, v, largest, codes);
    if (d == 0) {
        d = eoq_fit(t, v, codes);
        if (d == 0) {
            memset(qs, 0, (size_t) (t->bits * t->width / 8));
            return 0;
        }
        // of several exact descriptions of the same weights, keep the one that eoq_grid finds first
        const float unit = eoq_unit(t, d);
        largest          = 0.0f;
        for (int i = 0; i < t->width; ++i) {
            v[i]    = (float) t->levels[codes[i]] * unit;
            largest = fabsf(v[i]) > largest ? fabsf(v[i]) : largest;
        }
        const uint16_t canonical = eoq_grid(t, v, largest, codes);
        d                        = canonical != 0 ? canonical : d;
    }
    eoq_pack(t, codes, qs);
    return d;
}

// ---- rows; the type is a constant in each use, so that the compiler unrolls and folds

EOQ_INLINE void eoq_quantize_row(const eoq_type * t, const float * x, uint8_t * y, int64_t k) {
    assert(k % t->width == 0);
    const size_t block_bytes = 2 + (size_t) (t->bits * t->width / 8);
    for (int64_t i = 0; i < k / t->width; ++i, y += block_bytes) {
        const uint16_t d = eoq_quantize_block(t, x + i * t->width, y + 2);
        memcpy(y, &d, sizeof(d));
    }
}

EOQ_INLINE void eoq_dequantize_row(int code, int width, const uint8_t * x, float * y, int64_t k) {
    assert(k % width == 0);
    int16_t signs[QK_EOQ_MAX];
    int8_t  levels[QK_EOQ_MAX];
    eoq_sign_masks(width, signs);
    for (int64_t i = 0; i < k / width; ++i, x += 2 + EOQ_BITS(code) * width / 8) {
        eoq_block_levels(x + 2, code, width, levels);
        eoq_weights_of_levels(levels, width, signs, x, y + i * width);
    }
}

#define EOQ_DEFINE_SCALAR(T, t, nbits, nwidth, A, a)                                                     \
    static const eoq_type eoq_type_##t = { nbits, nwidth, eoq##nbits##_levels, eoq##nbits##_code_of,     \
                                           EOQ##nbits##_FACTOR };                                        \
    void quantize_row_##t##_ref(const float * GGML_RESTRICT x, block_##t * GGML_RESTRICT y, int64_t k) { \
        eoq_quantize_row(&eoq_type_##t, x, (uint8_t *) y, k);                                            \
    }
GGML_EOQ_SCALAR_TYPES(EOQ_DEFINE_SCALAR)

#define EOQ_DEFINE_TRELLIS(T, t, code, width, A, a)                                                      \
    void quantize_row_##t##_ref(const float * GGML_RESTRICT x, block_##t * GGML_RESTRICT y, int64_t k) { \
        eoq_quantize_trellis_row(EOQ_BITS(code), width, x, (uint8_t *) y, k);                            \
    }
GGML_EOQ_TRELLIS_TYPES(EOQ_DEFINE_TRELLIS)

#define EOQ_DEFINE_TYPE(T, t, code, width, A, a)                                                                     \
    void dequantize_row_##t(const block_##t * GGML_RESTRICT x, float * GGML_RESTRICT y, int64_t k) {                 \
        eoq_dequantize_row(code, width, (const uint8_t *) x, y, k);                                                  \
    }                                                                                                                \
    size_t quantize_##t(const float * GGML_RESTRICT src, void * GGML_RESTRICT dst, int64_t nrows, int64_t n_per_row, \
                        const float * imatrix) {                                                                     \
        (void) imatrix; /* an orthogonal rotation mixes the columns: importance needs error feedback */              \
        quantize_row_##t##_ref(src, (block_##t *) dst, nrows * n_per_row);                                           \
        return (size_t) (nrows * n_per_row / (width)) * sizeof(block_##t);                                           \
    }
GGML_EOQ_WEIGHT_TYPES(EOQ_DEFINE_TYPE)
