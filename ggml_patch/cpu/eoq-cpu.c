// CPU kernels of the EOQ types: the portable versions, and the dispatch to the fast ones.

#include "eoq-cpu.h"

#include "eoq-kernel.h"
#include "eoq-mul-mat.h"

#include <math.h>

// docs/format.md, section 6
static inline void eoq_quantize_activations(const float * x, int width, float * d, int32_t * s, int8_t * qs) {
    float v[QK_EOQ_MAX];
    for (int i = 0; i < width; ++i) {
        v[i] = eoq_sign_is_negative(i) ? -x[i] : x[i];
    }
    eoq_transform_f32(v, width);
    // magnitudes compared as integers: infinity and NaN rank above every number
    int32_t largest = 0;
    for (int i = 0; i < width; ++i) {
        int32_t bits;
        memcpy(&bits, &v[i], sizeof(bits));
        bits &= 0x7FFFFFFF;
        largest = bits > largest ? bits : largest;
    }
    float amax;
    memcpy(&amax, &largest, sizeof(amax));
    const bool finite = largest < 0x7F800000;
    *s                = 0;
    if (!finite || amax < EOQ_SMALLEST_ACTIVATION) {
        *d = finite ? 0.0f : amax / 127.0f;
        memset(qs, 0, (size_t) width);
        return;
    }
    const float inverse = 127.0f / amax;
    for (int i = 0; i < width; ++i) {
        const int q = (int) rintf(v[i] * inverse);
        qs[i]       = (int8_t) q;
        *s += q;
    }
    *d = amax / 127.0f;
}

EOQ_INLINE void eoq_quantize_activation_row(const float * x, uint8_t * y, int64_t k, int width) {
    assert(k % width == 0);
    for (int64_t i = 0; i < k / width; ++i, y += EOQ_ACTIVATION_HEADER + width) {
        float   d;
        int32_t s;
        eoq_quantize_activations(x + i * width, width, &d, &s, (int8_t *) y + EOQ_ACTIVATION_HEADER);
        eoq_store_activation_header(y, d, s);
    }
}

// docs/format.md, section 7
EOQ_INLINE float eoq_dot_row(const uint8_t * x, const uint8_t * y, int64_t k, int code, int width) {
    float sum = 0.0f;
    for (int64_t ib = 0; ib < k / width; ++ib) {
        const int8_t * q   = (const int8_t *) y + EOQ_ACTIVATION_HEADER;
        int32_t        dot = 0;
        int8_t         levels[QK_EOQ_MAX];
        eoq_block_levels(x + 2, code, width, levels);
        for (int i = 0; i < width; ++i) {
            dot += levels[i] * q[i];
        }
        uint16_t d;
        memcpy(&d, x, sizeof(d));
        sum += eoq_scale_to_float(d) * EOQ_LEVEL_UNIT * eoq_activation_scale(y) * (float) dot;
        x += 2 + EOQ_BITS(code) * width / 8;
        y += EOQ_ACTIVATION_HEADER + width;
    }
    return sum;
}

EOQ_INLINE void eoq_mul_mat_generic(int64_t              k,
                                    const void *         weights,
                                    size_t               row_bytes,
                                    int64_t              n_rows,
                                    const void * const * columns,
                                    float * const *      out,
                                    int64_t              n_columns,
                                    int                  code,
                                    int                  width) {
    assert(k % width == 0);
    for (int64_t c = 0; c < n_columns; ++c) {
        for (int64_t r = 0; r < n_rows; ++r) {
            const uint8_t * row = (const uint8_t *) weights + r * row_bytes;
            out[c][r]           = eoq_dot_row(row, (const uint8_t *) columns[c], k, code, width);
        }
    }
}

#define EOQ_DEFINE(T, t, width)                                                                         \
    void quantize_row_##t##_generic(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k) { \
        eoq_quantize_activation_row(x, (uint8_t *) y, k, width);                                        \
    }
GGML_EOQ_ACTIVATION_TYPES(EOQ_DEFINE)
#undef EOQ_DEFINE

#define EOQ_DEFINE(T, t, code, width, A, a)                                                                          \
    void quantize_row_##t(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k) {                        \
        quantize_row_##t##_ref(x, (block_##t *) y, k);                                                               \
    }                                                                                                                \
    void ggml_vec_dot_##t##_##a##_generic(int n, float * GGML_RESTRICT s, size_t bs, const void * GGML_RESTRICT vx,  \
                                          size_t bx, const void * GGML_RESTRICT vy, size_t by, int nrc) {            \
        assert(nrc == 1);                                                                                            \
        (void) bs, (void) bx, (void) by, (void) nrc;                                                                 \
        *s = eoq_dot_row((const uint8_t *) vx, (const uint8_t *) vy, n, code, width);                                \
    }                                                                                                                \
    void ggml_vec_dot_##t##_##a(int n, float * GGML_RESTRICT s, size_t bs, const void * GGML_RESTRICT vx, size_t bx, \
                                const void * GGML_RESTRICT vy, size_t by, int nrc) {                                 \
        assert(nrc == 1);                                                                                            \
        (void) bs, (void) bx, (void) by, (void) nrc;                                                                 \
        const void * columns[1] = { vy };                                                                            \
        float *      out[1]     = { s };                                                                             \
        ggml_eoq_mul_mat_##t(n, vx, 0, 1, columns, out, 1);                                                          \
    }                                                                                                                \
    void ggml_eoq_mul_mat_##t##_generic(int64_t k, const void * weights, size_t row_bytes, int64_t n_rows,           \
                                        const void * const * columns, float * const * out, int64_t n_columns) {      \
        eoq_mul_mat_generic(k, weights, row_bytes, n_rows, columns, out, n_columns, code, width);                    \
    }
GGML_EOQ_WEIGHT_TYPES(EOQ_DEFINE)
#undef EOQ_DEFINE

// machines without fast kernels of their own use the portable ones
#if !defined(EOQ_AVX2) && !defined(EOQ_NEON)

#    define EOQ_DEFINE(T, t, width)                                                               \
        void quantize_row_##t(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k) { \
            quantize_row_##t##_generic(x, y, k);                                                  \
        }
GGML_EOQ_ACTIVATION_TYPES(EOQ_DEFINE)
#    undef EOQ_DEFINE

#    define EOQ_DEFINE(T, t, code, width, A, a)                                                              \
        void ggml_eoq_mul_mat_##t(int64_t k, const void * weights, size_t row_bytes, int64_t n_rows,         \
                                  const void * const * columns, float * const * out, int64_t n_columns) {    \
            ggml_eoq_mul_mat_##t##_generic(k, weights, row_bytes, n_rows, columns, out, n_columns);          \
        }                                                                                                    \
        void ggml_eoq_dequantize_row_##t(const void * GGML_RESTRICT x, float * GGML_RESTRICT y, int64_t k) { \
            dequantize_row_##t((const block_##t *) x, y, k);                                                 \
        }
GGML_EOQ_WEIGHT_TYPES(EOQ_DEFINE)
#    undef EOQ_DEFINE

#endif
