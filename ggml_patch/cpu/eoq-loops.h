#pragma once

// The loops of a matrix product and of a row to floats: ggml_eoq_mul_mat_<t> and ggml_eoq_dequantize_row_<t> of all types.
// The file that includes this one has defined:
//
//   EOQ_STREAMS       rows that eoq_dot_rows takes at most, 1 or 2
//   EOQ_FEW_COLUMNS   columns that it takes at most, 4
//   EOQ_TILE_COLUMNS  columns that eoq_add_tile takes at most, 4 or 8
//   EOQ_MANY_COLUMNS  columns whose sums are held at a time
//   eoq_tables        tables of levels in registers, by eoq_load_tables
//   eoq_row_sums      a float sum for each of EOQ_TILE_ROWS rows: an array or struct of vectors, all zero where its bytes are
//   eoq_tile          a block of EOQ_TILE_ROWS rows, decoded by eoq_decode_tile
//   eoq_dot_rows      EOQ_STREAMS rows or one by few columns, in units of EOQ_LEVEL_UNIT
//   eoq_add_tile      sums of a tile's rows += the tile by a block of each column, in the same units
//   eoq_store_sums    sums of a tile's rows to floats
//   eoq_vector        of bytes
//   eoq_decode_block  all levels of a block plus EOQ_DECODED_BIAS, in order
//
// Everything is inlined with literal code (of the table of types), width and numbers of columns.

#include "eoq-cpu.h"
#include "eoq-kernel.h"
#include "eoq-mul-mat.h"

// Rows in order, or two of them in order side by side, one from each half: then activations are loaded once for both, and
// memory delivers as fast as from one place. Neighbouring rows side by side are half as fast.
EOQ_INLINE void eoq_few_columns(int64_t                 k,
                                const uint8_t *         weights,
                                size_t                  row_bytes,
                                int64_t                 n_rows,
                                const uint8_t * const * columns,
                                float * const *         out,
                                int                     n_columns,
                                int                     code,
                                int                     width) {
    const eoq_tables tables = eoq_load_tables(code);
    int64_t          half   = n_rows / EOQ_STREAMS;
    float            products[EOQ_STREAMS][EOQ_FEW_COLUMNS];
    // exactly some pages apart, both want the same sets of the first cache at a time: up to a quarter slower
    if (EOQ_STREAMS > 1 && half > 32 && half * row_bytes % 4096 == 0) {
        half -= 2;
    }
    for (int64_t r = 0; r < half; ++r) {
        const uint8_t * row = weights + r * row_bytes;
        eoq_dot_rows(k, row, half * row_bytes, EOQ_STREAMS, columns, products, n_columns, code, width, &tables);
        for (int s = 0; s < EOQ_STREAMS; ++s) {
            for (int c = 0; c < n_columns; ++c) {
                out[c][r + s * half] = products[s][c] * EOQ_LEVEL_UNIT;
            }
        }
    }
    for (int64_t r = EOQ_STREAMS * half; r < n_rows; ++r) {
        eoq_dot_rows(k, weights + r * row_bytes, 0, 1, columns, products, n_columns, code, width, &tables);
        for (int c = 0; c < n_columns; ++c) {
            out[c][r] = products[0][c] * EOQ_LEVEL_UNIT;
        }
    }
}

// Blocks of EOQ_TILE_ROWS rows are decoded once and multiplied with all columns.
EOQ_INLINE void eoq_many_columns(int64_t                 k,
                                 const uint8_t *         weights,
                                 size_t                  row_bytes,
                                 int64_t                 n_rows,
                                 const uint8_t * const * columns,
                                 float * const *         out,
                                 int                     n_columns,
                                 int                     code,
                                 int                     width) {
    const size_t     block_bytes      = 2 + EOQ_BITS(code) * width / 8;
    const size_t     activation_bytes = EOQ_ACTIVATION_HEADER + width;
    const eoq_tables tables           = eoq_load_tables(code);
    for (int64_t row = 0; row < n_rows; row += EOQ_TILE_ROWS) {
        const int       in_tile = n_rows - row < EOQ_TILE_ROWS ? (int) (n_rows - row) : EOQ_TILE_ROWS;
        const uint8_t * rows[EOQ_TILE_ROWS];
        eoq_row_sums    sums[EOQ_MANY_COLUMNS];
        eoq_tile        tile;
        for (int r = 0; r < EOQ_TILE_ROWS; ++r) {
            rows[r] = weights + (row + (r < in_tile ? r : 0)) * row_bytes;
        }
        memset(sums, 0, (size_t) n_columns * sizeof(sums[0]));
        for (int64_t ib = 0; ib < k / width; ++ib) {
            const size_t at = ib * activation_bytes;
            int          c  = 0;
            eoq_decode_tile(rows, ib * block_bytes, code, width, &tables, &tile);
            for (int r = 0; r < EOQ_TILE_ROWS; ++r) {
                eoq_prefetch(rows[r] + ib * block_bytes, block_bytes, EOQ_TILE_AHEAD);
            }
            for (; c + EOQ_TILE_COLUMNS <= n_columns; c += EOQ_TILE_COLUMNS) {
                eoq_add_tile(&tile, columns + c, at, sums + c, EOQ_TILE_COLUMNS, width);
            }
            if (EOQ_TILE_COLUMNS > 4 && n_columns - c >= 4) {
                eoq_add_tile(&tile, columns + c, at, sums + c, 4, width);
                c += 4;
            }
            if (n_columns - c >= 2) {
                eoq_add_tile(&tile, columns + c, at, sums + c, 2, width);
                c += 2;
            }
            if (n_columns - c >= 1) {
                eoq_add_tile(&tile, columns + c, at, sums + c, 1, width);
            }
        }
        for (int c = 0; c < n_columns; ++c) {
            float values[EOQ_TILE_ROWS];
            eoq_store_sums(sums + c, values);
            for (int r = 0; r < EOQ_TILE_ROWS; ++r) {
                values[r] *= EOQ_LEVEL_UNIT;
            }
            memcpy(out[c] + row, values, in_tile * sizeof(float));
        }
    }
}

// all columns: as many as can be at a time
EOQ_INLINE void eoq_mul_mat(int64_t              k,
                            const void *         weights,
                            size_t               row_bytes,
                            int64_t              n_rows,
                            const void * const * columns,
                            float * const *      out,
                            int64_t              n_columns,
                            int                  code,
                            int                  width) {
    assert(k % width == 0);
    const uint8_t *         w = (const uint8_t *) weights;
    const uint8_t * const * y = (const uint8_t * const *) columns;
    for (int64_t c = 0; c < n_columns;) {
        const int64_t left = n_columns - c;
        int           n    = 1;
        if (left >= EOQ_MANY_FROM) {
            n = left < EOQ_MANY_COLUMNS ? (int) left : EOQ_MANY_COLUMNS;
            eoq_many_columns(k, w, row_bytes, n_rows, y + c, out + c, n, code, width);
        } else if (left >= EOQ_FEW_COLUMNS) {
            n = EOQ_FEW_COLUMNS;
            eoq_few_columns(k, w, row_bytes, n_rows, y + c, out + c, EOQ_FEW_COLUMNS, code, width);
        } else if (left >= 2) {
            n = 2;
            eoq_few_columns(k, w, row_bytes, n_rows, y + c, out + c, 2, code, width);
        } else {
            eoq_few_columns(k, w, row_bytes, n_rows, y + c, out + c, 1, code, width);
        }
        c += n;
    }
}

#define EOQ_DEFINE(T, t, code, width, A, a)                                                           \
    void ggml_eoq_mul_mat_##t(int64_t k, const void * weights, size_t row_bytes, int64_t n_rows,      \
                              const void * const * columns, float * const * out, int64_t n_columns) { \
        eoq_mul_mat(k, weights, row_bytes, n_rows, columns, out, n_columns, code, width);             \
    }
GGML_EOQ_WEIGHT_TYPES(EOQ_DEFINE)
#undef EOQ_DEFINE

EOQ_INLINE void eoq_dequantize_row(const uint8_t * x, float * y, int64_t k, int code, int width) {
    assert(k % width == 0);
    const eoq_tables tables = eoq_load_tables(code);
    int16_t          signs[QK_EOQ_MAX];
    eoq_sign_masks(width, signs);
    for (int64_t i = 0; i < k / width; ++i, x += 2 + EOQ_BITS(code) * width / 8) {
        eoq_vector decoded[QK_EOQ_MAX / sizeof(eoq_vector)];
        int8_t     levels[QK_EOQ_MAX];
        eoq_decode_block(x + 2, code, width, &tables, decoded);
        memcpy(levels, decoded, (size_t) width);
        for (int j = 0; j < width && EOQ_DECODED_BIAS != 0; ++j) {
            levels[j] = (int8_t) (levels[j] - EOQ_DECODED_BIAS);
        }
        eoq_weights_of_levels(levels, width, signs, x, y + i * width);
    }
}

#define EOQ_DEFINE(T, t, code, width, A, a)                                                              \
    void ggml_eoq_dequantize_row_##t(const void * GGML_RESTRICT x, float * GGML_RESTRICT y, int64_t k) { \
        eoq_dequantize_row((const uint8_t *) x, y, k, code, width);                                      \
    }
GGML_EOQ_WEIGHT_TYPES(EOQ_DEFINE)
#undef EOQ_DEFINE
