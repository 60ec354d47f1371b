#pragma once

// CPU kernels of the EOQ types: activation quantiser, dot products, rows to floats.

#include "ggml-eoq.h"

#ifdef __cplusplus
extern "C" {
#endif

// quantize_row_<activation>: k floats are rotated block by block and rounded to int8; y points to block_<activation>
#define GGML_EOQ_DECLARE(T, t, width)                                                        \
    void quantize_row_##t(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k); \
    void quantize_row_##t##_generic(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k);
GGML_EOQ_ACTIVATION_TYPES(GGML_EOQ_DECLARE)
#undef GGML_EOQ_DECLARE

// quantize_row_<t>:             from_float of a weight type (for copies into a quantised tensor)
// ggml_eoq_dequantize_row_<t>:  to_float, the same floats as dequantize_row_<t>
// ggml_vec_dot_<t>_<activation>: ggml's vec_dot signature, one row by one column (nrc == 1)
#define GGML_EOQ_DECLARE(T, t, bits, width, A, a)                                                                    \
    void quantize_row_##t(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k);                         \
    void ggml_eoq_dequantize_row_##t(const void * GGML_RESTRICT x, float * GGML_RESTRICT y, int64_t k);              \
    void ggml_vec_dot_##t##_##a(int n, float * GGML_RESTRICT s, size_t bs, const void * GGML_RESTRICT vx, size_t bx, \
                                const void * GGML_RESTRICT vy, size_t by, int nrc);                                  \
    void ggml_vec_dot_##t##_##a##_generic(int n, float * GGML_RESTRICT s, size_t bs, const void * GGML_RESTRICT vx,  \
                                          size_t bx, const void * GGML_RESTRICT vy, size_t by, int nrc);
GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_DECLARE)
#undef GGML_EOQ_DECLARE

#ifdef __cplusplus
}
#endif
