#pragma once

// What the matrix products with vectors of 256 bits share: bits of codes, activations, sums.

#include "eoq-kernel.h"

enum { EOQ_STREAMS = 2, EOQ_FEW_COLUMNS = 4 };

enum {
    EOQ_TILE_COLUMNS = 4,    // sums in registers at a time, two for each
    EOQ_MANY_COLUMNS = 128,  // float sums on the stack: 8 KiB
};

typedef __m256 eoq_row_sums[2];

// bits of a 1-bit plane, 32 of them: each by itself in a byte that is else zero
EOQ_INLINE __m256i eoq_spread_bits(const uint8_t * plane) {
    int32_t bits;
    memcpy(&bits, plane, sizeof(bits));
    const __m256i spread =
        _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i select = _mm256_set1_epi64x((int64_t) 0x8040201008040201);
    return _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread), select);
}

// 0xFF where the bit is zero
EOQ_INLINE __m256i eoq_zero_bits(const uint8_t * plane) {
    return _mm256_cmpeq_epi8(eoq_spread_bits(plane), _mm256_setzero_si256());
}

// the low bits (2 or 4) of codes 32 * g to 32 * g + 31; bits above them are not cleared
EOQ_INLINE __m256i eoq_low_bits(const uint8_t * qs, int g, int bits, int width) {
    if (bits >= 4) {
        const int     half  = width / 64;  // vectors of 32 bytes in the 4-bit plane
        const __m256i bytes = _mm256_loadu_si256((const __m256i *) (qs + 32 * (g % half)));
        return g < half ? bytes : _mm256_srli_epi16(bytes, 4);
    }
    if (width == 128) {
        return _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *) qs), 2 * g);
    }
    const __m128i bytes = _mm_loadu_si128((const __m128i *) qs);
    return _mm256_set_m128i(_mm_srli_epi16(bytes, 4 * g + 2), _mm_srli_epi16(bytes, 4 * g));
}

EOQ_INLINE __m256i eoq_load_activations(const uint8_t * block, int g) {
    return _mm256_loadu_si256((const __m256i *) (block + EOQ_ACTIVATION_HEADER + 32 * g));
}

// sums[h] += the integer products of a tile's rows 8 * h to 8 * h + 7 with a block of activations, times both scales
EOQ_INLINE void eoq_add_products(const __m256 * scales, const uint8_t * y, const __m256i * dot, __m256 * sums) {
    const __m256 d = _mm256_set1_ps(eoq_activation_scale(y));
    for (int h = 0; h < 2; ++h) {
        const __m256 scale = _mm256_mul_ps(scales[h], d);
        sums[h]            = _mm256_add_ps(sums[h], _mm256_mul_ps(scale, _mm256_cvtepi32_ps(dot[h])));
    }
}

EOQ_INLINE void eoq_store_sums(eoq_row_sums * sums, float * values) {
    _mm256_storeu_ps(values, (*sums)[0]);
    _mm256_storeu_ps(values + 8, (*sums)[1]);
}

// compilers that load for all columns first, or add up late, run out of registers, which halves the speed
#if defined(__GNUC__)
#    define EOQ_ADD_NOW(sum)     __asm__("" : "+x"(sum))
#    define EOQ_KEEP_ORDER(a, b) __asm__ volatile("" : "+x"(a), "+x"(b))
#else
#    define EOQ_ADD_NOW(sum)
#    define EOQ_KEEP_ORDER(a, b)
#endif

//
// trellis types: in the planes of codes the byte before a byte is the one above it in rows of 32, so a row's bytes before are
// the row that was decoded before it, as it is
//

// which tables are used depends on the bits; each is repeated in both halves
typedef struct {
    __m256i first[2];        // by the free bit, levels plus the bias: by number, or what the code contributes
    __m256i second;          // what the codes before contribute
    __m256i older;           // to be XORed with the code before last, by the last code
    __m256i numbers[2][3];   // of the first and the last two codes, by nibbles
    __m256i matrices[2][2];  // the same, of whole bytes
} eoq_trellis_tables;

EOQ_INLINE __m256i eoq_repeat_table(const void * table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) table));
}

EOQ_INLINE eoq_trellis_tables eoq_load_trellis_tables(int bits, int bias) {
    const int8_t * first = eoq_trellis_first(bits);
    uint8_t        biased[32];
    for (int i = 0; i < 32; ++i) {
        biased[i] = (uint8_t) (first[eoq_has_free_bit(bits) ? i : i % 16] + bias);
    }
    eoq_trellis_tables t;
    t.first[0] = eoq_repeat_table(biased);
    t.first[1] = eoq_repeat_table(biased + 16);
    t.second   = eoq_repeat_table(eoq_trellis_second(bits));
    t.older    = eoq_repeat_table(eoq_trellis_older(bits));
    for (int i = 0; i < 3; ++i) {
        t.numbers[0][i] = eoq_repeat_table(eoq_trellis_numbers_01[i]);
        t.numbers[1][i] = eoq_repeat_table(eoq_trellis_numbers_23[i]);
    }
    for (int i = 0; i < 4; ++i) {
        t.matrices[i / 2][i % 2] = _mm256_set1_epi64x((long long) eoq_trellis_matrices[i / 2][i % 2]);
    }
    return t;
}

//
// A block is decoded in steps of a row of bytes. Of the vectors that a step gives, vector i is for positions 32 * g to
// 32 * g + 31 with g = i * steps + step.
//

EOQ_INLINE int eoq_trellis_steps(int bits, int width) {
    const int plane_bytes = eoq_low_plane_bits(bits) * width / 8;
    return plane_bytes < 32 ? 1 : plane_bytes / 32;
}

// 32 bytes of a plane, and their nibbles
typedef struct {
    __m256i bytes;
    __m256i low;
    __m256i high;
} eoq_plane_row;

EOQ_INLINE __m256i eoq_low_nibbles(__m256i x) {
    return _mm256_and_si256(x, _mm256_set1_epi8(15));
}

EOQ_INLINE eoq_plane_row eoq_split_row(__m256i bytes) {
    const eoq_plane_row row = { bytes, eoq_low_nibbles(bytes), eoq_low_nibbles(_mm256_srli_epi16(bytes, 4)) };
    return row;
}

// row of a plane of codes; a plane of 16 bytes is repeated
EOQ_INLINE eoq_plane_row eoq_load_row(const uint8_t * qs, int step, int bits, int width) {
    if (eoq_low_plane_bits(bits) * width / 8 < 32) {
        return eoq_split_row(eoq_repeat_table(qs));
    }
    return eoq_split_row(_mm256_loadu_si256((const __m256i *) (qs + 32 * step)));
}

// what is before the first row: the last one a byte further, behind a zero (of which there is a byte in front of the plane)
EOQ_INLINE eoq_plane_row eoq_row_before_first(const uint8_t * qs, int bits, int width) {
    const __m256i clear       = _mm256_setr_epi64x(~0xFF, -1, -1, -1);
    const int     plane_bytes = eoq_low_plane_bits(bits) * width / 8;
    if (plane_bytes < 32) {
        const __m256i last = eoq_repeat_table(qs - 1);
        return eoq_split_row(_mm256_and_si256(last, _mm256_setr_epi64x(~0xFF, -1, ~0xFF, -1)));
    }
    return eoq_split_row(_mm256_and_si256(_mm256_loadu_si256((const __m256i *) (qs + plane_bytes - 33)), clear));
}

EOQ_INLINE __m256i eoq_xor_of_3(const __m256i * tables, __m256i x, __m256i y, __m256i z) {
    const __m256i both = _mm256_xor_si256(_mm256_shuffle_epi8(tables[0], x), _mm256_shuffle_epi8(tables[1], y));
    return _mm256_xor_si256(both, _mm256_shuffle_epi8(tables[2], z));
}

// numbers of the levels of codes 0 and 1 (in the high nibble) of each byte (half 0), or of codes 2 and 3 (half 1)
EOQ_INLINE __m256i eoq_trellis_numbers(eoq_plane_row              row,
                                       eoq_plane_row              before,
                                       int                        half,
                                       const eoq_trellis_tables * t) {
#if defined(__GFNI__)
    return _mm256_xor_si256(_mm256_gf2p8affine_epi64_epi8(row.bytes, t->matrices[half][0], 0),
                            _mm256_gf2p8affine_epi64_epi8(before.bytes, t->matrices[half][1], 0));
#else
    return half == 0 ? eoq_xor_of_3(t->numbers[0], row.low, before.high, before.low) :
                       eoq_xor_of_3(t->numbers[1], row.high, row.low, before.high);
#endif
}

//
// free bits: bit i of byte j of their plane is that of position i * width / 8 + j
//

// bits of positions 0 to 31 are the lowest ones of the 32 bytes, those of the next 32 are 256 / width bits above them
EOQ_INLINE __m256i eoq_load_free_bits(const uint8_t * qs, int bits, int width) {
    const uint8_t * plane = qs + eoq_low_plane_bits(bits) * width / 8;
    if (!eoq_has_free_bit(bits)) {
        return _mm256_setzero_si256();
    }
    if (width == 256) {
        return _mm256_loadu_si256((const __m256i *) plane);
    }
    if (width == 128) {
        return _mm256_srlv_epi64(eoq_repeat_table(plane), _mm256_setr_epi64x(0, 0, 1, 1));
    }
    int64_t eight;
    memcpy(&eight, plane, sizeof(eight));
    return _mm256_srlv_epi64(_mm256_set1_epi64x(eight), _mm256_setr_epi64x(0, 1, 2, 3));
}

// what indices below 16 and the free bits choose, for positions 32 * g to 32 * g + 31
EOQ_INLINE __m256i
eoq_choose(const eoq_trellis_tables * t, __m256i index, int bits, int width, __m256i free_bits, int g) {
    const __m256i chosen = _mm256_shuffle_epi8(t->first[0], index);
    if (!eoq_has_free_bit(bits)) {
        return chosen;
    }
    // the top bit of each byte decides
    const __m256i free = _mm256_slli_epi16(free_bits, 7 - g * 256 / width);
    return _mm256_blendv_epi8(chosen, _mm256_shuffle_epi8(t->first[1], index), free);
}

// levels plus the bias, by what the codes of 4 bits chose, the codes before them, and those before these
EOQ_INLINE __m256i eoq_sum_of_two(__m256i chosen, __m256i last, __m256i before_last, const eoq_trellis_tables * t) {
    const __m256i history = _mm256_xor_si256(before_last, _mm256_shuffle_epi8(t->older, last));
    return _mm256_add_epi8(chosen, _mm256_shuffle_epi8(t->second, history));
}

// levels plus the bias of a row of bytes; returns the number of vectors
EOQ_INLINE int eoq_decode_row(eoq_plane_row              row,
                              eoq_plane_row              before,
                              int                        step,
                              int                        bits,
                              int                        width,
                              const eoq_trellis_tables * t,
                              __m256i                    free_bits,
                              __m256i *                  levels) {
    const int steps = eoq_trellis_steps(bits, width);
    if (eoq_low_plane_bits(bits) == 4) {
        const __m256i low  = eoq_choose(t, row.low, bits, width, free_bits, step);
        const __m256i high = eoq_choose(t, row.high, bits, width, free_bits, steps + step);
        levels[0]          = eoq_sum_of_two(low, before.high, before.low, t);
        levels[1]          = eoq_sum_of_two(high, row.low, before.high, t);
        return 2;
    }
    const int n = width == 64 ? 2 : 4;
    for (int half = 0; half < 2; ++half) {
        const __m256i numbers = eoq_trellis_numbers(row, before, half, t);
        __m256i       number[2];
        if (width == 64) {
            number[0] = _mm256_srlv_epi64(numbers, _mm256_setr_epi64x(0, 0, 4, 4));
        } else {
            number[0] = numbers;
            number[1] = _mm256_srli_epi16(numbers, 4);
        }
        for (int i = 0; i < n / 2; ++i) {
            const int at = half * n / 2 + i;
            levels[at]   = eoq_choose(t, eoq_low_nibbles(number[i]), bits, width, free_bits, at * steps + step);
        }
    }
    return n;
}

//
// all levels of a block, for tiles
//

// levels plus the bias
EOQ_INLINE void eoq_decode_trellis(const uint8_t *            qs,
                                   int                        bits,
                                   int                        width,
                                   const eoq_trellis_tables * t,
                                   __m256i *                  levels) {
    const int     steps     = eoq_trellis_steps(bits, width);
    const __m256i free_bits = eoq_load_free_bits(qs, bits, width);
    eoq_plane_row before    = eoq_row_before_first(qs, bits, width);
    for (int step = 0; step < steps; ++step) {
        const eoq_plane_row row = eoq_load_row(qs, step, bits, width);
        __m256i             of_row[4];
        const int           n = eoq_decode_row(row, before, step, bits, width, t, free_bits, of_row);
        for (int i = 0; i < n; ++i) {
            levels[i * steps + step] = of_row[i];
        }
        before = row;
    }
}
