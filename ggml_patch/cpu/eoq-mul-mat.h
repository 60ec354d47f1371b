#pragma once

// Products of several rows of weights with several columns of rotated activations: what mul_mat and mul_mat_id ask for.

#include "ggml-eoq.h"

#ifdef __cplusplus
extern "C" {
#endif

// from this many columns on, weights are decoded once for all of them, in tiles of this many rows; with fewer it is faster
// to read the weights in order, one row after the other (measured on x86)
enum { EOQ_MANY_FROM = 12, EOQ_TILE_ROWS = 16 };

// out[c][r] = row r * column c, for 0 <= r < n_rows and 0 <= c < n_columns
// k:         length of rows and columns, a multiple of the width
// weights:   n_rows rows of blocks, row_bytes apart
// columns:   k / width activation blocks each
typedef void (*eoq_mul_mat_fn)(int64_t              k,
                               const void *         weights,
                               size_t               row_bytes,
                               int64_t              n_rows,
                               const void * const * columns,
                               float * const *      out,
                               int64_t              n_columns);

// ggml_eoq_mul_mat_<t>, and the portable ..._generic
#define GGML_EOQ_DECLARE(T, t, bits, width, A, a)                                                          \
    void ggml_eoq_mul_mat_##t(int64_t k, const void * weights, size_t row_bytes, int64_t n_rows,           \
                              const void * const * columns, float * const * out, int64_t n_columns);       \
    void ggml_eoq_mul_mat_##t##_generic(int64_t k, const void * weights, size_t row_bytes, int64_t n_rows, \
                                        const void * const * columns, float * const * out, int64_t n_columns);
GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_DECLARE)
#undef GGML_EOQ_DECLARE

#ifdef __cplusplus
}
#endif
