// Matrix products of the EOQ types with NEON, and with its dot products (sdot) and matrix products (smmla) of bytes
// where the compiler's flags allow them.

#include "eoq-kernel.h"
#include "eoq-mul-mat.h"

#if defined(EOQ_NEON)
#    include "eoq-trellis-neon.h"

enum { EOQ_GROUPS = QK_EOQ_MAX / 16 };  // of 16 codes, in the widest blocks

// unrolled loops over a tile load too much of it at a time, and spill it
#    define EOQ_NO_UNROLL _Pragma("GCC unroll 1")

//
// levels of a block
//

// levels of all codes; which table is used depends on the bits
typedef struct {
    int8x16_t          of_16;  // fewer than 16 are repeated
    int8x16x2_t        of_32;
    int8x16x4_t        of_64;
    eoq_trellis_tables trellis;
} eoq_tables;

EOQ_INLINE eoq_tables eoq_load_tables(int code) {
    const int  bits = EOQ_BITS(code);
    eoq_tables t;
    if (EOQ_IS_TRELLIS(code)) {
        t.trellis = eoq_load_trellis_tables(bits);
        return t;
    }
    const int8_t * levels = eoq_scalar_levels(bits);
    int8_t         table[64];
    for (int i = 0; i < 64; ++i) {
        table[i] = levels[i & ((1 << bits) - 1)];
    }
    t.of_16 = vld1q_s8(table);
    t.of_32 = vld1q_s8_x2(table);
    t.of_64 = vld1q_s8_x4(table);
    return t;
}

EOQ_INLINE uint8x16_t eoq_shift_right(uint8x16_t x, int n) {
    switch (n) {  // the instruction takes literals only
        case 2:
            return vshrq_n_u8(x, 2);
        case 4:
            return vshrq_n_u8(x, 4);
        case 6:
            return vshrq_n_u8(x, 6);
        default:
            return x;
    }
}

// a plane of single bits; in blocks of 64 the upper half is zero
EOQ_INLINE uint8x16_t eoq_load_plane(const uint8_t * plane, int width) {
    return width == 128 ? vld1q_u8(plane) : vcombine_u8(vld1_u8(plane), vdup_n_u8(0));
}

// 0xFF where the bit of a code in group g is set
EOQ_INLINE uint8x16_t eoq_plane_bits(uint8x16_t plane, int g) {
    const uint8x16_t spread = vcombine_u8(vdup_n_u8((uint8_t) (2 * g)), vdup_n_u8((uint8_t) (2 * g + 1)));
    const uint8x16_t select = vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201)));
    return vtstq_u8(vqtbl1q_u8(plane, spread), select);
}

// all levels of a block of a scalar type, 16 in a vector
EOQ_INLINE void eoq_decode_scalar(const uint8_t * qs, int bits, int width, const eoq_tables * t, int8x16_t * levels) {
    const int        low_bits  = eoq_low_plane_bits(bits);
    const int        low_bytes = low_bits * width / 8;
    const int        n         = low_bytes / 16;  // vectors in the first plane
    const uint8_t *  planes    = qs + low_bytes;
    const uint8x16_t zero      = vdupq_n_u8(0);
    const uint8x16_t plane0    = bits > low_bits ? eoq_load_plane(planes, width) : zero;
    const uint8x16_t plane1    = bits > low_bits + 1 ? eoq_load_plane(planes + width / 8, width) : zero;
    EOQ_UNROLL
    for (int g = 0; g < width / 16; ++g) {
        const int  shift = low_bits * (g / n);
        uint8x16_t code  = eoq_shift_right(vld1q_u8(qs + 16 * (g % n)), shift);
        if (shift < 8 - low_bits) {
            code = vandq_u8(code, vdupq_n_u8((uint8_t) ((1 << low_bits) - 1)));
        }
        if (bits > low_bits) {
            code = vbslq_u8(vdupq_n_u8((uint8_t) (1 << low_bits)), eoq_plane_bits(plane0, g), code);
        }
        if (bits > low_bits + 1) {
            code = vbslq_u8(vdupq_n_u8((uint8_t) (2 << low_bits)), eoq_plane_bits(plane1, g), code);
        }
        if (bits == 6) {
            levels[g] = vqtbl4q_s8(t->of_64, code);
        } else if (bits == 5) {
            levels[g] = vqtbl2q_s8(t->of_32, code);
        } else {
            levels[g] = vqtbl1q_s8(t->of_16, code);
        }
    }
}

// all levels of a block, 16 in a vector
EOQ_INLINE void eoq_decode_block(const uint8_t * qs, int code, int width, const eoq_tables * t, int8x16_t * levels) {
    if (EOQ_IS_TRELLIS(code)) {
        eoq_decode_trellis(qs, EOQ_BITS(code), width, &t->trellis, levels);
    } else {
        eoq_decode_scalar(qs, code, width, t, levels);
    }
}

// sum + products of 16 levels with 16 activations, by fours or in any other way
EOQ_INLINE int32x4_t eoq_dot(int32x4_t sum, int8x16_t levels, int8x16_t q) {
#    if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, levels, q);
#    else
    // two products fit 16 bits: at most 2 * 127 * 128
    const int16x8_t products = vmull_s8(vget_low_s8(levels), vget_low_s8(q));
    return vpadalq_s16(sum, vmlal_high_s8(products, levels, q));
#    endif
}

EOQ_INLINE int8x16_t eoq_load_activations(const uint8_t * block, int g) {
    return vld1q_s8((const int8_t *) block + EOQ_ACTIVATION_HEADER + 16 * g);
}

//
// few columns: row by row
//

enum { EOQ_STREAMS = 1, EOQ_FEW_COLUMNS = 4 };

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
    (void) stride, (void) n_rows;
    const size_t block_bytes      = 2 + EOQ_BITS(code) * width / 8;
    const size_t activation_bytes = EOQ_ACTIVATION_HEADER + width;
    float32x4_t  sums[EOQ_FEW_COLUMNS];
    for (int c = 0; c < n_columns; ++c) {
        sums[c] = vdupq_n_f32(0.0f);
    }
    for (int64_t ib = 0; ib < k / width; ++ib) {
        const uint8_t * block = row + ib * block_bytes;
        const float     scale = eoq_scale(block);
        eoq_prefetch(block, block_bytes, EOQ_ROW_AHEAD);
        int8x16_t levels[EOQ_GROUPS];
        eoq_decode_block(block + 2, code, width, tables, levels);
        for (int c = 0; c < n_columns; ++c) {
            const uint8_t * y   = columns[c] + ib * activation_bytes;
            int32x4_t       dot = vdupq_n_s32(0);
            EOQ_UNROLL
            for (int g = 0; g < width / 16; ++g) {
                dot = eoq_dot(dot, levels[g], eoq_load_activations(y, g));
            }
            sums[c] = vfmaq_n_f32(sums[c], vcvtq_f32_s32(dot), scale * eoq_activation_scale(y));
        }
    }
    for (int c = 0; c < n_columns; ++c) {
        products[0][c] = vaddvq_f32(sums[c]);
    }
}

//
// many columns: tiles of rows
//

enum {
    EOQ_ROW_VECTORS  = EOQ_TILE_ROWS / 4,
    EOQ_TILE_COLUMNS = 4,    // sums in registers at a time, four for each
    EOQ_MANY_COLUMNS = 128,  // float sums on the stack: 8 KiB
};

// One block of 16 rows. Element [g] holds levels 16 * g to 16 * g + 15 of all rows, in the order that eoq_dot_tile
// wants:
// - smmla: [8 * l + p] holds the l-th eight of row 2 * p, then of row 2 * p + 1;
// - sdot:  [4 * l + h] holds the l-th four of rows 4 * h to 4 * h + 3;
// - else:  [r] holds those of row r.
typedef struct {
    int8x16_t   levels[EOQ_GROUPS][EOQ_TILE_ROWS];
    float32x4_t scales[EOQ_ROW_VECTORS];
} eoq_tile;

typedef float32x4_t eoq_row_sums[EOQ_ROW_VECTORS];

#    if defined(__ARM_FEATURE_MATMUL_INT8)

enum { EOQ_ROWS_TOGETHER = 2 };

EOQ_INLINE void eoq_store_levels(int8x16_t (*rows)[EOQ_GROUPS], int g, int row, eoq_tile * tile) {
    const int64x2_t a            = vreinterpretq_s64_s8(rows[0][g]);
    const int64x2_t b            = vreinterpretq_s64_s8(rows[1][g]);
    tile->levels[g][row / 2]     = vreinterpretq_s8_s64(vzip1q_s64(a, b));
    tile->levels[g][8 + row / 2] = vreinterpretq_s8_s64(vzip2q_s64(a, b));
}

// dot[c][h]: rows 4 * h to 4 * h + 3 of the tile by column c
EOQ_INLINE void eoq_dot_tile(const eoq_tile *        tile,
                             const uint8_t * const * y,
                             int                     n_columns,
                             int                     width,
                             int32x4_t (*dot)[EOQ_ROW_VECTORS]) {
    enum { ROW_PAIRS = EOQ_TILE_ROWS / 2, COLUMN_PAIRS = EOQ_TILE_COLUMNS / 2 };

    const int column_pairs = (n_columns + 1) / 2;
    int32x4_t pairs[COLUMN_PAIRS][ROW_PAIRS];  // first column by two rows, second column by the same
    for (int c = 0; c < column_pairs; ++c) {
        for (int p = 0; p < ROW_PAIRS; ++p) {
            pairs[c][p] = vdupq_n_s32(0);
        }
    }
    EOQ_NO_UNROLL
    for (int g = 0; g < width / 16; ++g) {
        int8x16_t q[COLUMN_PAIRS][2];
        for (int c = 0; c < column_pairs; ++c) {
            const int       last = 2 * c + 1 < n_columns ? 2 * c + 1 : 2 * c;
            const int64x2_t a    = vreinterpretq_s64_s8(eoq_load_activations(y[2 * c], g));
            const int64x2_t b    = vreinterpretq_s64_s8(eoq_load_activations(y[last], g));
            q[c][0]              = vreinterpretq_s8_s64(vzip1q_s64(a, b));
            q[c][1]              = vreinterpretq_s8_s64(vzip2q_s64(a, b));
        }
        for (int i = 0; i < EOQ_TILE_ROWS; ++i) {
            for (int c = 0; c < column_pairs; ++c) {
                pairs[c][i % ROW_PAIRS] = vmmlaq_s32(pairs[c][i % ROW_PAIRS], q[c][i / ROW_PAIRS], tile->levels[g][i]);
            }
        }
    }
    for (int c = 0; c < n_columns; ++c) {
        for (int h = 0; h < EOQ_ROW_VECTORS; ++h) {
            const int64x2_t a = vreinterpretq_s64_s32(pairs[c / 2][2 * h]);
            const int64x2_t b = vreinterpretq_s64_s32(pairs[c / 2][2 * h + 1]);
            dot[c][h]         = vreinterpretq_s32_s64(c % 2 ? vzip2q_s64(a, b) : vzip1q_s64(a, b));
        }
    }
}

#    elif defined(__ARM_FEATURE_DOTPROD)

enum { EOQ_ROWS_TOGETHER = 4 };

// 4 x 4 matrix of four bytes each
EOQ_INLINE void eoq_store_levels(int8x16_t (*rows)[EOQ_GROUPS], int g, int row, eoq_tile * tile) {
    const int32x4_t r0      = vreinterpretq_s32_s8(rows[0][g]);
    const int32x4_t r1      = vreinterpretq_s32_s8(rows[1][g]);
    const int32x4_t r2      = vreinterpretq_s32_s8(rows[2][g]);
    const int32x4_t r3      = vreinterpretq_s32_s8(rows[3][g]);
    const int64x2_t a02     = vreinterpretq_s64_s32(vtrn1q_s32(r0, r1));
    const int64x2_t a13     = vreinterpretq_s64_s32(vtrn2q_s32(r0, r1));
    const int64x2_t b02     = vreinterpretq_s64_s32(vtrn1q_s32(r2, r3));
    const int64x2_t b13     = vreinterpretq_s64_s32(vtrn2q_s32(r2, r3));
    int8x16_t *     to      = tile->levels[g] + row / 4;
    to[0]                   = vreinterpretq_s8_s64(vtrn1q_s64(a02, b02));
    to[EOQ_ROW_VECTORS]     = vreinterpretq_s8_s64(vtrn1q_s64(a13, b13));
    to[2 * EOQ_ROW_VECTORS] = vreinterpretq_s8_s64(vtrn2q_s64(a02, b02));
    to[3 * EOQ_ROW_VECTORS] = vreinterpretq_s8_s64(vtrn2q_s64(a13, b13));
}

// dot[c][h]: rows 4 * h to 4 * h + 3 of the tile by column c
EOQ_INLINE void eoq_dot_tile(const eoq_tile *        tile,
                             const uint8_t * const * y,
                             int                     n_columns,
                             int                     width,
                             int32x4_t (*dot)[EOQ_ROW_VECTORS]) {
    for (int c = 0; c < n_columns; ++c) {
        for (int h = 0; h < EOQ_ROW_VECTORS; ++h) {
            dot[c][h] = vdupq_n_s32(0);
        }
    }
    EOQ_NO_UNROLL
    for (int g = 0; g < width / 16; ++g) {
        int8x16_t q[EOQ_TILE_COLUMNS];
        for (int c = 0; c < n_columns; ++c) {
            q[c] = eoq_load_activations(y[c], g);
        }
        const int8x16_t * levels = tile->levels[g];
        for (int h = 0; h < EOQ_ROW_VECTORS; ++h) {
            for (int c = 0; c < n_columns; ++c) {
                int32x4_t sum = dot[c][h];
                sum           = vdotq_laneq_s32(sum, levels[h], q[c], 0);
                sum           = vdotq_laneq_s32(sum, levels[EOQ_ROW_VECTORS + h], q[c], 1);
                sum           = vdotq_laneq_s32(sum, levels[2 * EOQ_ROW_VECTORS + h], q[c], 2);
                dot[c][h]     = vdotq_laneq_s32(sum, levels[3 * EOQ_ROW_VECTORS + h], q[c], 3);
            }
        }
    }
}

#    else

enum { EOQ_ROWS_TOGETHER = 1 };

EOQ_INLINE void eoq_store_levels(int8x16_t (*rows)[EOQ_GROUPS], int g, int row, eoq_tile * tile) {
    tile->levels[g][row] = rows[0][g];
}

// dot[c][h]: rows 4 * h to 4 * h + 3 of the tile by column c
EOQ_INLINE void eoq_dot_tile(const eoq_tile *        tile,
                             const uint8_t * const * y,
                             int                     n_columns,
                             int                     width,
                             int32x4_t (*dot)[EOQ_ROW_VECTORS]) {
    for (int h = 0; h < EOQ_ROW_VECTORS; ++h) {
        int32x4_t parts[EOQ_TILE_COLUMNS][4];  // sums of four parts of each row
        for (int c = 0; c < n_columns; ++c) {
            parts[c][0] = parts[c][1] = parts[c][2] = parts[c][3] = vdupq_n_s32(0);
        }
        EOQ_NO_UNROLL
        for (int g = 0; g < width / 16; ++g) {
            EOQ_UNROLL
            for (int c = 0; c < n_columns; ++c) {
                const int8x16_t q = eoq_load_activations(y[c], g);
                EOQ_UNROLL
                for (int r = 0; r < 4; ++r) {
                    parts[c][r] = eoq_dot(parts[c][r], tile->levels[g][4 * h + r], q);
                }
            }
        }
        for (int c = 0; c < n_columns; ++c) {
            dot[c][h] = vpaddq_s32(vpaddq_s32(parts[c][0], parts[c][1]), vpaddq_s32(parts[c][2], parts[c][3]));
        }
    }
}

#    endif

EOQ_INLINE void eoq_decode_tile(const uint8_t * const * rows,
                                size_t                  offset,
                                int                     code,
                                int                     width,
                                const eoq_tables *      tables,
                                eoq_tile *              tile) {
    float scales[EOQ_TILE_ROWS];
    for (int row = 0; row < EOQ_TILE_ROWS; row += EOQ_ROWS_TOGETHER) {
        int8x16_t levels[EOQ_ROWS_TOGETHER][EOQ_GROUPS];
        for (int r = 0; r < EOQ_ROWS_TOGETHER; ++r) {
            const uint8_t * block = rows[row + r] + offset;
            scales[row + r]       = eoq_scale(block);
            eoq_decode_block(block + 2, code, width, tables, levels[r]);
        }
        for (int g = 0; g < width / 16; ++g) {
            eoq_store_levels(levels, g, row, tile);
        }
    }
    for (int h = 0; h < EOQ_ROW_VECTORS; ++h) {
        tile->scales[h] = vld1q_f32(scales + 4 * h);
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
    int32x4_t       dot[EOQ_TILE_COLUMNS][EOQ_ROW_VECTORS];
    for (int c = 0; c < n_columns; ++c) {
        y[c] = columns[c] + offset;
    }
    eoq_dot_tile(tile, y, n_columns, width, dot);
    for (int c = 0; c < n_columns; ++c) {
        const float d = eoq_activation_scale(y[c]);
        for (int h = 0; h < EOQ_ROW_VECTORS; ++h) {
            sums[c][h] = vfmaq_f32(sums[c][h], vmulq_n_f32(tile->scales[h], d), vcvtq_f32_s32(dot[c][h]));
        }
    }
}

EOQ_INLINE void eoq_store_sums(eoq_row_sums * sums, float * values) {
    for (int h = 0; h < EOQ_ROW_VECTORS; ++h) {
        vst1q_f32(values + 4 * h, (*sums)[h]);
    }
}

typedef int8x16_t eoq_vector;

enum { EOQ_DECODED_BIAS = 0 };

#    include "eoq-loops.h"

#endif
