// Matrix products of the EOQ types with AVX-VNNI: what AVX-512 VNNI does, in vectors of 256 bits.
//
// vpdpbusd multiplies unsigned bytes with signed ones, so levels are looked up with 128 added, and every sum starts at
// -128 times the sum of the activations, which their blocks carry.

#include "eoq-kernel.h"
#include "eoq-mul-mat.h"

#if defined(EOQ_AVX_VNNI)
#    include "eoq-mul-mat-256.h"

//
// levels of a block, 32 at a time
//

// levels plus 128, as unsigned bytes: of scalar types 16 in each table, repeated in both halves
typedef struct {
    __m256i            level[4];
    eoq_trellis_tables trellis;
} eoq_tables;

EOQ_INLINE eoq_tables eoq_load_tables(int code) {
    const int  bits = EOQ_BITS(code);
    eoq_tables t;
    if (EOQ_IS_TRELLIS(code)) {
        t.trellis = eoq_load_trellis_tables(bits, 128);
        return t;
    }
    const int8_t * levels = eoq_scalar_levels(bits);
    uint8_t        table[64];
    for (int i = 0; i < 64; ++i) {
        table[i] = (uint8_t) (levels[i & ((1 << bits) - 1)] + 128);
    }
    for (int i = 0; i < 4; ++i) {
        t.level[i] = eoq_repeat_table(table + 16 * i);
    }
    return t;
}

// levels plus 128 of codes 32 * g to 32 * g + 31
EOQ_INLINE __m256i eoq_levels(const uint8_t * qs, int g, int bits, int width, const eoq_tables * t) {
    const int       low_bits = eoq_low_plane_bits(bits);
    const uint8_t * planes   = qs + low_bits * width / 8 + 4 * g;
    const __m256i   low      = eoq_low_bits(qs, g, bits, width);
    const __m256i   index    = _mm256_and_si256(low, _mm256_set1_epi8((char) ((1 << low_bits) - 1)));
    if (bits == low_bits) {
        return _mm256_shuffle_epi8(t->level[0], index);
    }
    const __m256i clear = eoq_zero_bits(planes);  // 0xFF where the first bit above the low ones is zero
    if (bits == 3) {
        const __m256i bit2 = _mm256_andnot_si256(clear, _mm256_set1_epi8(4));
        return _mm256_shuffle_epi8(t->level[0], _mm256_or_si256(index, bit2));
    }
    __m256i levels = _mm256_shuffle_epi8(t->level[1], index);
    levels         = _mm256_blendv_epi8(levels, _mm256_shuffle_epi8(t->level[0], index), clear);
    if (bits == 6) {
        __m256i upper = _mm256_shuffle_epi8(t->level[3], index);
        upper         = _mm256_blendv_epi8(upper, _mm256_shuffle_epi8(t->level[2], index), clear);
        levels        = _mm256_blendv_epi8(upper, levels, eoq_zero_bits(planes + width / 8));
    }
    return levels;
}

// levels plus 128 of a block, in order
EOQ_INLINE void eoq_decode_block(const uint8_t * qs, int code, int width, const eoq_tables * t, __m256i * levels) {
    if (EOQ_IS_TRELLIS(code)) {
        eoq_decode_trellis(qs, EOQ_BITS(code), width, &t->trellis, levels);
        return;
    }
    for (int g = 0; g < width / 32; ++g) {
        levels[g] = eoq_levels(qs, g, code, width, t);
    }
}

//
// few columns: row by row
//

// products[c] += those of a block of a trellis type with a block y[c] of each of several columns
EOQ_INLINE void eoq_dot_trellis_block(const uint8_t *            qs,
                                      const uint8_t * const *    y,
                                      int                        n_columns,
                                      int                        bits,
                                      int                        width,
                                      const eoq_trellis_tables * t,
                                      __m256i *                  products) {
    const int     steps     = eoq_trellis_steps(bits, width);
    const __m256i free_bits = eoq_load_free_bits(qs, bits, width);
    eoq_plane_row before    = eoq_row_before_first(qs, bits, width);
    for (int step = 0; step < steps; ++step) {
        const eoq_plane_row row = eoq_load_row(qs, step, bits, width);
        __m256i             levels[4];
        const int           n = eoq_decode_row(row, before, step, bits, width, t, free_bits, levels);
        for (int i = 0; i < n; ++i) {
            for (int c = 0; c < n_columns; ++c) {
                products[c] = EOQ_DPBUSD(products[c], levels[i], eoq_load_activations(y[c], i * steps + step));
            }
        }
        before = row;
    }
}

// integer products of a block of each of several rows with a block y[c] of each of several columns, in eight parts
EOQ_INLINE void eoq_dot_blocks(const uint8_t * const * qs,
                               int                     n_rows,
                               const uint8_t * const * y,
                               int                     n_columns,
                               int                     code,
                               int                     width,
                               const eoq_tables *      t,
                               __m256i (*dot)[EOQ_FEW_COLUMNS]) {
    for (int c = 0; c < n_columns; ++c) {
        const __m128i start = _mm_cvtsi32_si128(eoq_activation_sum_times(y[c], -128));
        for (int s = 0; s < n_rows; ++s) {
            dot[s][c] = _mm256_zextsi128_si256(start);
        }
    }
    if (EOQ_IS_TRELLIS(code)) {
        for (int s = 0; s < n_rows; ++s) {
            eoq_dot_trellis_block(qs[s], y, n_columns, EOQ_BITS(code), width, &t->trellis, dot[s]);
        }
        return;
    }
    for (int g = 0; g < width / 32; ++g) {
        for (int s = 0; s < n_rows; ++s) {
            const __m256i levels = eoq_levels(qs[s], g, code, width, t);
            for (int c = 0; c < n_columns; ++c) {
                dot[s][c] = EOQ_DPBUSD(dot[s][c], levels, eoq_load_activations(y[c], g));
            }
        }
    }
}

#    include "eoq-dot-rows-256.h"

//
// many columns: tiles of rows
//

// one block of 16 rows: element [i][h] holds levels 4 * i to 4 * i + 3 of rows 8 * h to 8 * h + 7, plus 128
typedef struct {
    __m256i levels[QK_EOQ_MAX / 4][2];
    __m256  scales[2];
} eoq_tile;

// 8 x 8 matrix of 32-bit elements
EOQ_INLINE void eoq_transpose(const __m256i * rows, __m256i * columns) {
    __m256i a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i]     = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i]     = _mm256_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    // b[4 * i + j] holds elements j and 4 + j of rows 4 * i to 4 * i + 3
    for (int j = 0; j < 4; ++j) {
        columns[j]     = _mm256_permute2x128_si256(b[j], b[4 + j], 0x20);
        columns[4 + j] = _mm256_permute2x128_si256(b[j], b[4 + j], 0x31);
    }
}

EOQ_INLINE void eoq_decode_tile(const uint8_t * const * rows,
                                size_t                  offset,
                                int                     code,
                                int                     width,
                                const eoq_tables *      tables,
                                eoq_tile *              tile) {
    for (int h = 0; h < 2; ++h) {
        float scales[8];
        for (int r = 0; r < 8; ++r) {
            scales[r] = eoq_scale(rows[8 * h + r] + offset);
        }
        tile->scales[h] = _mm256_loadu_ps(scales);
        __m256i levels[QK_EOQ_MAX / 32][8];
        for (int r = 0; r < 8; ++r) {
            __m256i row[QK_EOQ_MAX / 32];
            eoq_decode_block(rows[8 * h + r] + offset + 2, code, width, tables, row);
            for (int g = 0; g < width / 32; ++g) {
                levels[g][r] = row[g];
            }
        }
        for (int g = 0; g < width / 32; ++g) {
            __m256i columns[8];
            eoq_transpose(levels[g], columns);
            for (int i = 0; i < 8; ++i) {
                tile->levels[8 * g + i][h] = columns[i];
            }
        }
    }
}

// sums[c][h] += rows of the tile * block of column c
EOQ_INLINE void eoq_add_tile(const eoq_tile *        tile,
                             const uint8_t * const * columns,
                             size_t                  offset,
                             eoq_row_sums *          sums,
                             int                     n_columns,
                             int                     width) {
    const uint8_t * y[EOQ_TILE_COLUMNS];
    __m256i         dot[EOQ_TILE_COLUMNS][2];
    for (int c = 0; c < n_columns; ++c) {
        y[c]      = columns[c] + offset;
        dot[c][0] = dot[c][1] = _mm256_set1_epi32(eoq_activation_sum_times(y[c], -128));
    }
    for (int i = 0; i < width / 4; ++i) {
        for (int c = 0; c < n_columns; ++c) {
            int32_t four;
            memcpy(&four, y[c] + EOQ_ACTIVATION_HEADER + 4 * i, sizeof(four));
            const __m256i q = _mm256_set1_epi32(four);
            dot[c][0]       = EOQ_DPBUSD(dot[c][0], tile->levels[i][0], q);
            dot[c][1]       = EOQ_DPBUSD(dot[c][1], tile->levels[i][1], q);
            EOQ_KEEP_ORDER(dot[c][0], dot[c][1]);
        }
    }
    for (int c = 0; c < n_columns; ++c) {
        eoq_add_products(tile->scales, y[c], dot[c], sums[c]);
    }
}

typedef __m256i eoq_vector;

enum { EOQ_DECODED_BIAS = 128 };

#    include "eoq-loops.h"

#endif
