#pragma once

// Rows by few columns with vectors of 256 bits. The file that includes this one has defined eoq_tables and eoq_dot_blocks,
// the integer products of a block of each row with a block of each column.

#include "eoq-mul-mat-256.h"

EOQ_INLINE float eoq_horizontal_sum(__m256 x) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    sum        = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

// products[s][c]: the row `s * stride` bytes after the first by column c
EOQ_INLINE void eoq_dot_rows(int64_t                 k,
                             const uint8_t *         row,
                             size_t                  stride,
                             int                     n_rows,
                             const uint8_t * const * columns,
                             float (*products)[EOQ_FEW_COLUMNS],
                             int                n_columns,
                             int                code,
                             int                width,
                             const eoq_tables * tables) {
    const size_t block_bytes      = 2 + EOQ_BITS(code) * width / 8;
    const size_t activation_bytes = EOQ_ACTIVATION_HEADER + width;
    __m256       sums[EOQ_STREAMS][EOQ_FEW_COLUMNS];
    for (int s = 0; s < n_rows; ++s) {
        for (int c = 0; c < n_columns; ++c) {
            sums[s][c] = _mm256_setzero_ps();
        }
    }
    for (int64_t ib = 0; ib < k / width; ++ib) {
        const uint8_t * qs[EOQ_STREAMS];
        const uint8_t * y[EOQ_FEW_COLUMNS];
        float           scales[EOQ_STREAMS];
        __m256i         dot[EOQ_STREAMS][EOQ_FEW_COLUMNS];
        for (int c = 0; c < n_columns; ++c) {
            y[c] = columns[c] + ib * activation_bytes;
        }
        for (int s = 0; s < n_rows; ++s) {
            const uint8_t * block = row + s * stride + ib * block_bytes;
            eoq_prefetch(block, block_bytes, EOQ_ROW_AHEAD);
            scales[s] = eoq_scale(block);
            qs[s]     = block + 2;
        }
        eoq_dot_blocks(qs, n_rows, y, n_columns, code, width, tables, dot);
        for (int s = 0; s < n_rows; ++s) {
            for (int c = 0; c < n_columns; ++c) {
                const __m256 d       = _mm256_set1_ps(scales[s] * eoq_activation_scale(y[c]));
                const __m256 product = _mm256_mul_ps(d, _mm256_cvtepi32_ps(dot[s][c]));
                sums[s][c]           = _mm256_add_ps(sums[s][c], product);
            }
        }
    }
    for (int s = 0; s < n_rows; ++s) {
        for (int c = 0; c < n_columns; ++c) {
            products[s][c] = eoq_horizontal_sum(sums[s][c]);
        }
    }
}
