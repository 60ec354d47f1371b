// Matrix products of the EOQ types with AVX-512 VNNI.
//
// vpdpbusd multiplies unsigned bytes with signed ones, so levels are looked up with 128 added, and every sum starts at
// -128 times the sum of the activations, which their blocks carry.

#include "eoq-kernel.h"
#include "eoq-mul-mat.h"

#if defined(EOQ_AVX512_VNNI)
#    include "eoq-trellis-avx512.h"

//
// levels of a block
//

// levels plus 128 of a scalar type, as unsigned bytes; the tables that are used depend on the bits
typedef struct {
    __m512i level[4];  // by the bits of the first plane, for each value of the bits above; repeated in every 128 bits
    __m512i all;       // up to 64 levels
} eoq_scalar_tables;

typedef struct {
    eoq_scalar_tables  scalar;
    eoq_trellis_tables trellis;
} eoq_tables;

EOQ_INLINE eoq_scalar_tables eoq_load_scalar_tables(int bits) {
    const int8_t * levels   = eoq_scalar_levels(bits);
    const int      low_bits = eoq_low_plane_bits(bits);
    uint8_t        table[64], low_table[64];
    for (int i = 0; i < 64; ++i) {
        const int code = (i / 16) << low_bits | (i & ((1 << low_bits) - 1));
        table[i]       = (uint8_t) (levels[i & ((1 << bits) - 1)] + 128);
        low_table[i]   = (uint8_t) (levels[code & ((1 << bits) - 1)] + 128);
    }
    eoq_scalar_tables t;
    for (int i = 0; i < 4; ++i) {
        t.level[i] = eoq_repeat_table(low_table + 16 * i);
    }
    t.all = _mm512_loadu_si512(table);
    return t;
}

EOQ_INLINE eoq_tables eoq_load_tables(int code) {
    eoq_tables t;
    if (EOQ_IS_TRELLIS(code)) {
        t.trellis = eoq_load_trellis_tables(EOQ_BITS(code));
    } else {
        t.scalar = eoq_load_scalar_tables(EOQ_BITS(code));
    }
    return t;
}

// bits of codes 64 * half to 64 * half + 63 in a plane of single bits
EOQ_INLINE __mmask64 eoq_plane(const uint8_t * plane, int half) {
    uint64_t mask;
    memcpy(&mask, plane + 8 * half, sizeof(mask));
    return _cvtu64_mask64(mask);
}

// codes 64 * half to 64 * half + 63 as far as the first plane has their bits; bits above them are not cleared
EOQ_INLINE __m512i eoq_low_plane(const uint8_t * qs, int half, int bits, int width) {
    if (bits >= 4) {
        if (width == 128) {
            const __m512i bytes = _mm512_loadu_si512(qs);
            return half ? _mm512_srli_epi16(bytes, 4) : bytes;
        }
        const __m256i bytes = _mm256_loadu_si256((const __m256i *) qs);
        return _mm512_inserti64x4(_mm512_castsi256_si512(bytes), _mm256_srli_epi16(bytes, 4), 1);
    }
    if (width == 128) {
        const __m512i bytes = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) qs));
        const __m512i shift =
            _mm512_inserti64x4(_mm512_set1_epi16((short) (4 * half)), _mm256_set1_epi16((short) (4 * half + 2)), 1);
        return _mm512_srlv_epi16(bytes, shift);
    }
    const __m512i bytes = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) qs));
    const __m512i shift = _mm512_set_epi64(0x0006000600060006, 0x0006000600060006, 0x0004000400040004,
                                           0x0004000400040004, 0x0002000200020002, 0x0002000200020002, 0, 0);
    return _mm512_srlv_epi16(bytes, shift);
}

// levels plus 128 of codes 64 * half to 64 * half + 63
EOQ_INLINE __m512i eoq_levels(const uint8_t * qs, int half, int bits, int width, const eoq_scalar_tables * t) {
    const int       low_bits = eoq_low_plane_bits(bits);
    const __m512i   low      = eoq_low_plane(qs, half, bits, width);
    const uint8_t * planes   = qs + low_bits * width / 8;
    if (bits == low_bits) {
        return eoq_look_up(t->level[0], low);
    }
    const __mmask64 bit = eoq_plane(planes, half);
    if (bits == low_bits + 1) {
        return eoq_mask_look_up(eoq_look_up(t->level[0], low), bit, t->level[1], low);
    }
    const __mmask64 bit5 = eoq_plane(planes + width / 8, half);
#    if defined(__AVX512VBMI__)
    const __m512i index = _mm512_and_si512(low, _mm512_set1_epi8(15));
    __m512i       code  = _mm512_mask_add_epi8(index, bit, index, _mm512_set1_epi8(16));
    code                = _mm512_mask_add_epi8(code, bit5, code, _mm512_set1_epi8(32));
    return _mm512_permutexvar_epi8(code, t->all);
#    else
    __m512i levels = eoq_look_up(t->level[0], low);
    levels         = eoq_mask_look_up(levels, bit, t->level[1], low);
    levels         = eoq_mask_look_up(levels, bit5, t->level[2], low);
    return eoq_mask_look_up(levels, _kand_mask64(bit, bit5), t->level[3], low);
#    endif
}

// levels plus 128 of a block, in order
EOQ_INLINE void eoq_decode_block(const uint8_t * qs, int code, int width, const eoq_tables * t, __m512i * levels) {
    if (EOQ_IS_TRELLIS(code)) {
        eoq_decode_trellis(qs, EOQ_BITS(code), width, &t->trellis, levels);
        return;
    }
    for (int i = 0; i < width / 64; ++i) {
        levels[i] = eoq_levels(qs, i, EOQ_BITS(code), width, &t->scalar);
    }
}

//
// few columns: row by row
//

enum { EOQ_STREAMS = 2, EOQ_FEW_COLUMNS = 4 };

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
    __m512       sums[EOQ_STREAMS][EOQ_FEW_COLUMNS];
    for (int s = 0; s < n_rows; ++s) {
        for (int c = 0; c < n_columns; ++c) {
            sums[s][c] = _mm512_setzero_ps();
        }
    }
    for (int64_t ib = 0; ib < k / width; ++ib) {
        float   scales[EOQ_STREAMS];
        __m512i levels[EOQ_STREAMS][QK_EOQ_MAX / 64];
        for (int s = 0; s < n_rows; ++s) {
            const uint8_t * block = row + s * stride + ib * block_bytes;
            eoq_prefetch(block, block_bytes, EOQ_ROW_AHEAD);
            scales[s] = eoq_scale(block);
            eoq_decode_block(block + 2, code, width, tables, levels[s]);
        }
        for (int c = 0; c < n_columns; ++c) {
            const uint8_t * y     = columns[c] + ib * activation_bytes;
            const __m512i   start = _mm512_zextsi128_si512(_mm_cvtsi32_si128(eoq_activation_sum_times(y, -128)));
            __m512i         q[QK_EOQ_MAX / 64];
            for (int i = 0; i < width / 64; ++i) {
                q[i] = _mm512_loadu_si512(y + EOQ_ACTIVATION_HEADER + 64 * i);
            }
            for (int s = 0; s < n_rows; ++s) {
                __m512i dot = start;
                for (int i = 0; i < width / 64; ++i) {
                    dot = _mm512_dpbusd_epi32(dot, levels[s][i], q[i]);
                }
                const __m512 d = _mm512_set1_ps(scales[s] * eoq_activation_scale(y));
                sums[s][c]     = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(dot), sums[s][c]);
            }
        }
    }
    for (int s = 0; s < n_rows; ++s) {
        for (int c = 0; c < n_columns; ++c) {
            products[s][c] = _mm512_reduce_add_ps(sums[s][c]);
        }
    }
}

//
// many columns: tiles of rows
//

enum {
    EOQ_TILE_COLUMNS = 8,    // sums in registers at a time
    EOQ_MANY_COLUMNS = 256,  // float sums on the stack: 16 KiB
};

// one block of 16 rows: element [i][r] holds levels 4 * i to 4 * i + 3 of row r, plus 128
typedef struct {
    __m512i levels[QK_EOQ_MAX / 4];
    __m512  scales;
} eoq_tile;

typedef __m512 eoq_row_sums;

// 16 x 16 matrix of 32-bit elements
EOQ_INLINE void eoq_transpose(const __m512i * rows, __m512i * columns) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i]     = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        b[i]     = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    // b[4 * i + j] holds elements j, 4 + j, 8 + j and 12 + j of rows 4 * i to 4 * i + 3
    for (int j = 0; j < 4; ++j) {
        const __m512i low_even  = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88);
        const __m512i low_odd   = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xDD);
        const __m512i high_even = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88);
        const __m512i high_odd  = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xDD);
        columns[j]              = _mm512_shuffle_i32x4(low_even, high_even, 0x88);
        columns[4 + j]          = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
        columns[8 + j]          = _mm512_shuffle_i32x4(low_even, high_even, 0xDD);
        columns[12 + j]         = _mm512_shuffle_i32x4(low_odd, high_odd, 0xDD);
    }
}

// compilers that copy sums around run out of registers, which costs a quarter of the speed
#    if defined(__GNUC__)
#        define EOQ_KEEP_IN_PLACE(x) __asm__ volatile("" : "+v"(x))
#    else
#        define EOQ_KEEP_IN_PLACE(x)
#    endif

EOQ_INLINE void eoq_decode_tile(const uint8_t * const * rows,
                                size_t                  offset,
                                int                     code,
                                int                     width,
                                const eoq_tables *      tables,
                                eoq_tile *              tile) {
    float   scales[EOQ_TILE_ROWS];
    __m512i levels[QK_EOQ_MAX / 64][EOQ_TILE_ROWS];
    for (int r = 0; r < EOQ_TILE_ROWS; ++r) {
        __m512i row[QK_EOQ_MAX / 64];
        eoq_decode_block(rows[r] + offset + 2, code, width, tables, row);
        for (int i = 0; i < width / 64; ++i) {
            levels[i][r] = row[i];
        }
        scales[r] = eoq_scale(rows[r] + offset);
    }
    for (int i = 0; i < width / 64; ++i) {
        eoq_transpose(levels[i], tile->levels + 16 * i);
    }
    tile->scales = _mm512_loadu_ps(scales);
}

// sums[c][r] += row r of the tile * block of column c
EOQ_INLINE void eoq_add_tile(const eoq_tile *        tile,
                             const uint8_t * const * columns,
                             size_t                  offset,
                             eoq_row_sums *          sums,
                             int                     n_columns,
                             int                     width) {
    const uint8_t * y[EOQ_TILE_COLUMNS];
    __m512i         dot[EOQ_TILE_COLUMNS];
    for (int c = 0; c < n_columns; ++c) {
        y[c]   = columns[c] + offset;
        dot[c] = _mm512_set1_epi32(eoq_activation_sum_times(y[c], -128));
    }
    for (int i = 0; i < width / 4; ++i) {
        for (int c = 0; c < n_columns; ++c) {
            int32_t q;
            memcpy(&q, y[c] + EOQ_ACTIVATION_HEADER + 4 * i, sizeof(q));
            dot[c] = _mm512_dpbusd_epi32(dot[c], tile->levels[i], _mm512_set1_epi32(q));
            EOQ_KEEP_IN_PLACE(dot[c]);
        }
    }
    for (int c = 0; c < n_columns; ++c) {
        const __m512 scale = _mm512_mul_ps(tile->scales, _mm512_set1_ps(eoq_activation_scale(y[c])));
        sums[c]            = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dot[c]), sums[c]);
    }
}

EOQ_INLINE void eoq_store_sums(eoq_row_sums * sums, float * values) {
    _mm512_storeu_ps(values, *sums);
}

typedef __m512i eoq_vector;

enum { EOQ_DECODED_BIAS = 128 };

#    include "eoq-loops.h"

#endif
