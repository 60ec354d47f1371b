// CPU kernels of the EOQ types: the portable versions, and the dispatch to the fast ones.

#include "eoq-cpu.h"

#include "eoq-kernel.h"
#include "eoq-mul-mat.h"

#include <math.h>

// docs/format.md, section 6
static inline void eoq_quantize_activations(const float * x, int width, float * d, int32_t * s, int8_t * qs) {
    float v[QK_EOQ];
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

#define EOQ_DEFINE(T, t, width)                                                                         \
    void quantize_row_##t##_generic(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k) { \
        assert(k % (width) == 0);                                                                       \
        block_##t * blocks = (block_##t *) y;                                                           \
        for (int64_t i = 0; i < k / (width); ++i) {                                                     \
            eoq_quantize_activations(x + i * (width), width, &blocks[i].d, &blocks[i].s, blocks[i].qs); \
        }                                                                                               \
    }
GGML_EOQ_ACTIVATION_TYPES(EOQ_DEFINE)
#undef EOQ_DEFINE

#define EOQ_DEFINE(T, t, bits, width, A, a)                                                                          \
    void quantize_row_##t(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k) {                        \
        quantize_row_##t##_ref(x, (block_##t *) y, k);                                                               \
    }                                                                                                                \
    void ggml_vec_dot_##t##_##a##_generic(int n, float * GGML_RESTRICT s, size_t bs, const void * GGML_RESTRICT vx,  \
                                          size_t bx, const void * GGML_RESTRICT vy, size_t by, int nrc) {            \
        assert(n % (width) == 0 && nrc == 1);                                                                        \
        (void) bs, (void) bx, (void) by, (void) nrc;                                                                 \
        const block_##t * x   = (const block_##t *) vx;                                                              \
        const block_##a * y   = (const block_##a *) vy;                                                              \
        float             sum = 0.0f;                                                                                \
        for (int ib = 0; ib < n / (width); ++ib) {                                                                   \
            int32_t dot = 0;                                                                                         \
            for (int i = 0; i < (width); ++i) {                                                                      \
                dot += eoq##bits##_levels[eoq_code(x[ib].qs, i, bits, width)] * y[ib].qs[i];                         \
            }                                                                                                        \
            sum += eoq_scale_to_float(x[ib].d) * EOQ_LEVEL_UNIT * y[ib].d * (float) dot;                             \
        }                                                                                                            \
        *s = sum;                                                                                                    \
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
        for (int64_t c = 0; c < n_columns; ++c) {                                                                    \
            for (int64_t r = 0; r < n_rows; ++r) {                                                                   \
                const uint8_t * row = (const uint8_t *) weights + r * row_bytes;                                     \
                ggml_vec_dot_##t##_##a##_generic((int) k, out[c] + r, 0, row, 0, columns[c], 0, 1);                  \
            }                                                                                                        \
        }                                                                                                            \
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

#    define EOQ_DEFINE(T, t, bits, width, A, a)                                                           \
        void ggml_eoq_mul_mat_##t(int64_t k, const void * weights, size_t row_bytes, int64_t n_rows,      \
                                  const void * const * columns, float * const * out, int64_t n_columns) { \
            ggml_eoq_mul_mat_##t##_generic(k, weights, row_bytes, n_rows, columns, out, n_columns);       \
        }
GGML_EOQ_WEIGHT_TYPES(EOQ_DEFINE)
#    undef EOQ_DEFINE

#endif
