// Matrix products of the EOQ types with AVX2.
//
// vpmaddubsw multiplies unsigned bytes with signed ones and adds two products in 16 bits, which a level plus 128 would
// exceed. With few columns, magnitudes of one factor are multiplied with the other one that took on its signs: then the
// sum of two is at most 2 * 127 * 127; levels of trellis types are unsigned once their lowest is subtracted. For many columns, levels are decoded to 16 bits once.

#include "eoq-kernel.h"
#include "eoq-mul-mat.h"

#if defined(EOQ_AVX2) && !defined(EOQ_AVX_VNNI) && !defined(EOQ_AVX512_VNNI)
#    include "eoq-mul-mat-256.h"

//
// levels of a block, 32 at a time
//

// 2 and 4 bits select a level. With 3, 5 and 6, where a mask has to be made of each bit of a plane, use is made of the
// symmetry of the tables: the top bit of a code is the sign of its level (1: positive), the bits below it select the
// magnitude, counted from the largest down in the negative half
typedef struct {
    __m256i            low;   // levels, or magnitudes 0 to 15 of the positive half
    __m256i            high;  // magnitudes 16 to 31, 6 bits only
    // the four levels of 2 bits as (level - lowest) / EOQ2_UNIT: small and unsigned
    __m256i            small;
    int                lowest;
    eoq_trellis_tables trellis;
} eoq_tables;

enum { EOQ2_UNIT = 8 };

typedef struct {
    __m256i magnitude;
    __m256i sign;  // -1 or 1
} eoq_signed_magnitudes;

// what is added to levels of trellis types to make them unsigned; those of 5 bits take eight bits with their sign
EOQ_INLINE int eoq_trellis_bias(int bits) {
    return bits == 2 ? -EOQ2T_LOWEST : bits == 3 ? -EOQ3T_LOWEST : bits == 4 ? -EOQ4T_LOWEST : 0;
}

EOQ_INLINE eoq_tables eoq_load_tables(int code) {
    const int  bits = EOQ_BITS(code);
    eoq_tables t;
    if (EOQ_IS_TRELLIS(code)) {
        t.trellis = eoq_load_trellis_tables(bits, eoq_trellis_bias(bits));
        return t;
    }
    const int8_t * levels = eoq_scalar_levels(bits);
    int8_t         table[32];
    int8_t         small[16] = { 0 };
    const int      skipped   = bits == eoq_low_plane_bits(bits) ? 0 : 1 << (bits - 1);
    for (int i = 0; i < 32; ++i) {
        table[i] = levels[skipped + i % ((1 << bits) - skipped)];
    }
    for (int i = 0; i < 16 && bits == 2; ++i) {
        small[i] = (int8_t) ((levels[i % 4] - levels[0]) / EOQ2_UNIT);
    }
    t.low    = eoq_repeat_table(table);
    t.high   = eoq_repeat_table(table + 16);
    t.small  = eoq_repeat_table(small);
    t.lowest = levels[0];
    return t;
}

// levels of codes 32 * g to 32 * g + 31, 2 and 4 bits
EOQ_INLINE __m256i eoq_look_up(const uint8_t * qs, int g, int bits, int width, const eoq_tables * t) {
    const __m256i mask = _mm256_set1_epi8((char) ((1 << bits) - 1));
    return _mm256_shuffle_epi8(t->low, _mm256_and_si256(eoq_low_bits(qs, g, bits, width), mask));
}

// the same in two parts, 3, 5 and 6 bits
EOQ_INLINE eoq_signed_magnitudes
eoq_look_up_magnitudes(const uint8_t * qs, int g, int bits, int width, const eoq_tables * t) {
    const int       low_bits  = eoq_low_plane_bits(bits);
    const uint8_t * planes    = qs + low_bits * width / 8 + 4 * g;
    const __m256i   low       = eoq_low_bits(qs, g, bits, width);
    const __m256i   mask      = _mm256_set1_epi8((char) ((1 << low_bits) - 1));
    const __m256i   top       = eoq_spread_bits(planes + (bits - low_bits - 1) * width / 8);
    const __m256i   negative  = _mm256_cmpeq_epi8(top, _mm256_setzero_si256());  // 0xFF where it is
    const __m256i   index     = _mm256_and_si256(_mm256_xor_si256(low, negative), mask);
    __m256i         magnitude = _mm256_shuffle_epi8(t->low, index);
    if (bits == 6) {
        // the fifth bit of the magnitude's number is the code's, complemented in the negative half
        const __m256i upper = _mm256_cmpeq_epi8(eoq_spread_bits(planes), top);
        magnitude           = _mm256_blendv_epi8(magnitude, _mm256_shuffle_epi8(t->high, index), upper);
    }
    const eoq_signed_magnitudes found = { magnitude, _mm256_or_si256(negative, _mm256_set1_epi8(1)) };
    return found;
}

EOQ_INLINE __m256i eoq_levels(const uint8_t * qs, int g, int bits, int width, const eoq_tables * t) {
    if (bits == eoq_low_plane_bits(bits)) {
        return eoq_look_up(qs, g, bits, width, t);
    }
    const eoq_signed_magnitudes found = eoq_look_up_magnitudes(qs, g, bits, width, t);
    return _mm256_sign_epi8(found.magnitude, found.sign);
}

// levels of a block, in order
EOQ_INLINE void eoq_decode_block(const uint8_t * qs, int code, int width, const eoq_tables * t, __m256i * levels) {
    if (EOQ_IS_TRELLIS(code)) {
        const int bias = eoq_trellis_bias(EOQ_BITS(code));
        eoq_decode_trellis(qs, EOQ_BITS(code), width, &t->trellis, levels);
        for (int g = 0; g < width / 32 && bias != 0; ++g) {
            levels[g] = _mm256_sub_epi8(levels[g], _mm256_set1_epi8((char) bias));
        }
        return;
    }
    for (int g = 0; g < width / 32; ++g) {
        levels[g] = eoq_levels(qs, g, code, width, t);
    }
}

//
// few columns: row by row
//

EOQ_INLINE __m256i eoq_add_pairs(__m256i sum, __m256i pairs) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    EOQ_ADD_NOW(sum);
    return sum;
}

// products[c]: those of a block of a trellis type with a block y[c] of each of several columns, in eight parts
EOQ_INLINE void eoq_dot_trellis_block(const uint8_t *            qs,
                                      const uint8_t * const *    y,
                                      int                        n_columns,
                                      int                        bits,
                                      int                        width,
                                      const eoq_trellis_tables * t,
                                      __m256i *                  products) {
    const int     steps     = eoq_trellis_steps(bits, width);
    const int     bias      = eoq_trellis_bias(bits);
    // sums of pairs of products that 16 bits can add: 8 * 30 * 127, 4 * 59 * 127, 2 * 118 * 127
    const int     together  = bits == 2 ? 4 : bits == 3 ? 2 : 1;
    const __m256i free_bits = eoq_load_free_bits(qs, bits, width);
    eoq_plane_row before    = eoq_row_before_first(qs, bits, width);
    for (int c = 0; c < n_columns; ++c) {
        products[c] = _mm256_zextsi128_si256(_mm_cvtsi32_si128(eoq_activation_sum_times(y[c], -bias)));
    }
    for (int step = 0; step < steps; ++step) {
        const eoq_plane_row row = eoq_load_row(qs, step, bits, width);
        __m256i             levels[4];
        __m256i             pairs[EOQ_FEW_COLUMNS];
        const int           n = eoq_decode_row(row, before, step, bits, width, t, free_bits, levels);
        for (int i = 0; i < n; ++i) {
            for (int c = 0; c < n_columns; ++c) {
                const __m256i q   = eoq_load_activations(y[c], i * steps + step);
                const __m256i two = bits == 5 ?
                                        _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(levels[i], q)) :
                                        _mm256_maddubs_epi16(levels[i], q);
                pairs[c]          = i % together == 0 ? two : _mm256_add_epi16(pairs[c], two);
                if ((i + 1) % together == 0 || i + 1 == n) {
                    products[c] = eoq_add_pairs(products[c], pairs[c]);
                }
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
    const int bits = EOQ_BITS(code);
    if (EOQ_IS_TRELLIS(code)) {
        for (int s = 0; s < n_rows; ++s) {
            eoq_dot_trellis_block(qs[s], y, n_columns, bits, width, &t->trellis, dot[s]);
        }
        return;
    }
    for (int s = 0; s < n_rows; ++s) {
        for (int c = 0; c < n_columns; ++c) {
            dot[s][c] = _mm256_setzero_si256();
        }
    }
    for (int g = 0; g < width / 32; ++g) {
        for (int s = 0; s < n_rows; ++s) {
            if (bits == 2) {
                const __m256i index  = _mm256_and_si256(eoq_low_bits(qs[s], g, 2, width), _mm256_set1_epi8(3));
                const __m256i levels = _mm256_shuffle_epi8(t->small, index);
                for (int c = 0; c < n_columns; ++c) {
                    // at most 4 * 2 * 20 * 127 in a block
                    const __m256i pairs = _mm256_maddubs_epi16(levels, eoq_load_activations(y[c], g));
                    dot[s][c]           = _mm256_add_epi16(dot[s][c], pairs);
                }
            } else if (bits == 4) {
                const __m256i levels = eoq_look_up(qs[s], g, bits, width, t);
                for (int c = 0; c < n_columns; ++c) {
                    const __m256i q     = eoq_load_activations(y[c], g);
                    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(levels, q));
                    dot[s][c]           = eoq_add_pairs(dot[s][c], pairs);
                }
            } else {
                const eoq_signed_magnitudes found = eoq_look_up_magnitudes(qs[s], g, bits, width, t);
                for (int c = 0; c < n_columns; ++c) {
                    const __m256i q     = _mm256_sign_epi8(eoq_load_activations(y[c], g), found.sign);
                    const __m256i pairs = _mm256_maddubs_epi16(found.magnitude, q);
                    dot[s][c]           = eoq_add_pairs(dot[s][c], pairs);
                }
            }
        }
    }
    for (int s = 0; s < n_rows && bits == 2; ++s) {
        for (int c = 0; c < n_columns; ++c) {
            const __m128i lowest = _mm_cvtsi32_si128(eoq_activation_sum_times(y[c], t->lowest));
            const __m256i levels = _mm256_madd_epi16(dot[s][c], _mm256_set1_epi16(EOQ2_UNIT));
            dot[s][c]            = _mm256_add_epi32(levels, _mm256_zextsi128_si256(lowest));
        }
    }
}

#    include "eoq-dot-rows-256.h"

//
// many columns: tiles of rows
//

// one block of 16 rows: element [i][h] holds levels 2 * i and 2 * i + 1 of rows 8 * h to 8 * h + 7
typedef struct {
    __m256i levels[QK_EOQ_MAX / 2][2];
    __m256  scales[2];
} eoq_tile;

// 8 x 8 matrix of 16-bit elements
EOQ_INLINE void eoq_transpose(const __m128i * rows, __m128i * columns) {
    __m128i a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i]     = _mm_unpacklo_epi16(rows[i], rows[i + 1]);
        a[i + 1] = _mm_unpackhi_epi16(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i]     = _mm_unpacklo_epi32(a[i], a[i + 2]);
        b[i + 1] = _mm_unpackhi_epi32(a[i], a[i + 2]);
        b[i + 2] = _mm_unpacklo_epi32(a[i + 1], a[i + 3]);
        b[i + 3] = _mm_unpackhi_epi32(a[i + 1], a[i + 3]);
    }
    for (int j = 0; j < 4; ++j) {
        columns[2 * j]     = _mm_unpacklo_epi64(b[j], b[4 + j]);
        columns[2 * j + 1] = _mm_unpackhi_epi64(b[j], b[4 + j]);
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
        __m128i pairs[QK_EOQ_MAX / 16][8];
        for (int r = 0; r < 8; ++r) {
            __m256i levels[QK_EOQ_MAX / 32];
            eoq_decode_block(rows[8 * h + r] + offset + 2, code, width, tables, levels);
            for (int g = 0; g < width / 32; ++g) {
                pairs[2 * g][r]     = _mm256_castsi256_si128(levels[g]);
                pairs[2 * g + 1][r] = _mm256_extracti128_si256(levels[g], 1);
            }
        }
        for (int i = 0; i < width / 16; ++i) {
            __m128i columns[8];
            eoq_transpose(pairs[i], columns);
            for (int j = 0; j < 8; ++j) {
                tile->levels[8 * i + j][h] = _mm256_cvtepi8_epi16(columns[j]);
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
    int16_t q[EOQ_TILE_COLUMNS * QK_EOQ_MAX];
    __m256i dot[EOQ_TILE_COLUMNS][2];
    for (int c = 0; c < n_columns; ++c) {
        const uint8_t * qs = columns[c] + offset + EOQ_ACTIVATION_HEADER;
        for (int i = 0; i < width; i += 16) {
            const __m128i bytes = _mm_loadu_si128((const __m128i *) (qs + i));
            _mm256_storeu_si256((__m256i *) (q + c * width + i), _mm256_cvtepi8_epi16(bytes));
        }
    }
    for (int c = 0; c < n_columns; ++c) {
        dot[c][0] = dot[c][1] = _mm256_setzero_si256();
    }
    for (int i = 0; i < width / 2; ++i) {
        for (int c = 0; c < n_columns; ++c) {
            int32_t pair;
            memcpy(&pair, q + c * width + 2 * i, sizeof(pair));
            const __m256i y = _mm256_set1_epi32(pair);
            dot[c][0]       = _mm256_add_epi32(dot[c][0], _mm256_madd_epi16(tile->levels[i][0], y));
            dot[c][1]       = _mm256_add_epi32(dot[c][1], _mm256_madd_epi16(tile->levels[i][1], y));
            EOQ_KEEP_ORDER(dot[c][0], dot[c][1]);
        }
    }
    for (int c = 0; c < n_columns; ++c) {
        eoq_add_products(tile->scales, columns[c] + offset, dot[c], sums[c]);
    }
}

typedef __m256i eoq_vector;

enum { EOQ_DECODED_BIAS = 0 };

#    include "eoq-loops.h"

#endif
