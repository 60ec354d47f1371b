#pragma once

// Levels of the trellis types with AVX-512. In the planes of codes the byte before a byte is the one above it in rows of
// 32, so that vectors of bytes before are mostly other bytes of the plane, as they are.

#include "eoq-kernel.h"

// entries of a table of 16 that is repeated in every 128 bits, by the low 4 bits of an index
EOQ_INLINE __m512i eoq_look_up(__m512i table, __m512i index) {
#if defined(__AVX512VBMI__)
    return _mm512_permutexvar_epi8(index, table);  // looks at 6 bits of the index
#else
    return _mm512_shuffle_epi8(table, _mm512_and_si512(index, _mm512_set1_epi8(15)));
#endif
}

// the same where the mask has ones, and `others` where it has not
EOQ_INLINE __m512i eoq_mask_look_up(__m512i others, __mmask64 mask, __m512i table, __m512i index) {
#if defined(__AVX512VBMI__)
    return _mm512_mask_permutexvar_epi8(others, mask, index, table);
#else
    return _mm512_mask_shuffle_epi8(others, mask, table, _mm512_and_si512(index, _mm512_set1_epi8(15)));
#endif
}

EOQ_INLINE __m512i eoq_repeat_table(const void * table) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) table));
}

EOQ_INLINE __m512i eoq_in_halves(__m256i low, __m256i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// which tables are used depends on the bits of the codes
typedef struct {
    __m512i first[2];        // by the free bit, levels plus 128: by number, or what the code contributes
    __m512i second;          // what the codes before contribute
    __m512i older;           // to be XORed with the code before last, by the last code
    __m512i numbers[2][3];   // of the first and the last two codes, by nibbles
    __m512i matrices[2][2];  // the same, of whole bytes
} eoq_trellis_tables;

EOQ_INLINE eoq_trellis_tables eoq_load_trellis_tables(int bits) {
    const int8_t * first = eoq_trellis_first(bits);
    uint8_t        biased[32];
    for (int i = 0; i < 32; ++i) {
        biased[i] = (uint8_t) (first[eoq_has_free_bit(bits) ? i : i % 16] + 128);
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
        t.matrices[i / 2][i % 2] = _mm512_set1_epi64((long long) eoq_trellis_matrices[i / 2][i % 2]);
    }
    return t;
}

// the last row of a plane a byte further, which is before the first one: the block's own bytes and one in front of them
EOQ_INLINE __m256i eoq_before_first_row(const uint8_t * qs, int plane_bytes) {
    return _mm256_maskz_loadu_epi8(~(__mmask32) 1, qs + plane_bytes - 33);
}

// numbers of the levels of codes 0 and 1 (in the high nibble) of each byte, and of codes 2 and 3
EOQ_INLINE void eoq_trellis_numbers(__m512i byte, __m512i before, const eoq_trellis_tables * t, __m512i * numbers) {
#if defined(__GFNI__)
    for (int i = 0; i < 2; ++i) {
        numbers[i] = _mm512_xor_si512(_mm512_gf2p8affine_epi64_epi8(byte, t->matrices[i][0], 0),
                                      _mm512_gf2p8affine_epi64_epi8(before, t->matrices[i][1], 0));
    }
#else
    const __m512i high    = _mm512_srli_epi16(before, 4);
    const __m512i by01[3] = { byte, high, before };
    const __m512i by23[3] = { _mm512_srli_epi16(byte, 4), byte, high };
    __m512i       part[2][3];
    for (int i = 0; i < 3; ++i) {
        part[0][i] = eoq_look_up(t->numbers[0][i], by01[i]);
        part[1][i] = eoq_look_up(t->numbers[1][i], by23[i]);
    }
    for (int i = 0; i < 2; ++i) {
        numbers[i] = _mm512_ternarylogic_epi32(part[i][0], part[i][1], part[i][2], 0x96);
    }
#endif
}

// a plane of free bits, repeated: bit i of byte j is that of position i * width / 8 + j
EOQ_INLINE __m512i eoq_load_free_bits(const uint8_t * plane, int width) {
    if (width == 256) {
        return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) plane));
    }
    if (width == 128) {
        return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) plane));
    }
    int64_t eight;
    memcpy(&eight, plane, sizeof(eight));
    return _mm512_set1_epi64(eight);
}

// those of positions 64 * i to 64 * i + 63
EOQ_INLINE __mmask64 eoq_free_mask(__m512i free_bits, int i, int width) {
    uint8_t bits[64];
    for (int j = 0; j < 64; ++j) {
        bits[j] = (uint8_t) (1 << (64 * i + j) / (width / 8));
    }
    return _mm512_test_epi8_mask(free_bits, _mm512_loadu_si512(bits));
}

// what an index and the free bits choose, for positions 64 * i to 64 * i + 63
EOQ_INLINE __m512i
eoq_choose(const eoq_trellis_tables * t, __m512i index, int bits, int width, __m512i free_bits, int i) {
    const __m512i chosen = eoq_look_up(t->first[0], index);
    if (!eoq_has_free_bit(bits)) {
        return chosen;
    }
    return eoq_mask_look_up(chosen, eoq_free_mask(free_bits, i, width), t->first[1], index);
}

// levels plus 128 of a block with codes of 2 bits
EOQ_INLINE void eoq_decode_trellis_2(const uint8_t *            qs,
                                     int                        bits,
                                     int                        width,
                                     const eoq_trellis_tables * t,
                                     __m512i                    free_bits,
                                     __m512i *                  levels) {
    __m512i numbers[2];
    if (width == 256) {
        const __m256i above = _mm256_loadu_si256((const __m256i *) qs);
        const __m512i before =
            _mm512_mask_broadcast_i64x4(_mm512_castsi256_si512(eoq_before_first_row(qs, 64)), 0xF0, above);
        eoq_trellis_numbers(_mm512_loadu_si512(qs), before, t, numbers);
        for (int i = 0; i < 4; ++i) {
            const __m512i number = i % 2 == 0 ? numbers[i / 2] : _mm512_srli_epi16(numbers[i / 2], 4);
            levels[i]            = eoq_choose(t, number, bits, width, free_bits, i);
        }
    } else if (width == 128) {
        const __m512i shift = eoq_in_halves(_mm256_setzero_si256(), _mm256_set1_epi16(4));
        const __m512i byte  = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) qs));
        eoq_trellis_numbers(byte, _mm512_broadcast_i64x4(eoq_before_first_row(qs, 32)), t, numbers);
        for (int i = 0; i < 2; ++i) {
            levels[i] = eoq_choose(t, _mm512_srlv_epi16(numbers[i], shift), bits, width, free_bits, i);
        }
    } else {
        const __m256i quarters = _mm256_setr_epi64x(0, 0, 0x0004000400040004, 0x0004000400040004);
        const __m128i before   = _mm_maskz_loadu_epi8((__mmask16) ~1, qs - 1);
        const __m512i byte     = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) qs));
        eoq_trellis_numbers(byte, _mm512_broadcast_i32x4(before), t, numbers);
        const __m512i all    = _mm512_mask_blend_epi64(0xF0, numbers[0], numbers[1]);
        const __m512i number = _mm512_srlv_epi16(all, eoq_in_halves(quarters, quarters));
        levels[0]            = eoq_choose(t, number, bits, width, free_bits, 0);
    }
}

// levels plus 128 of vector i by codes of 4 bits, the ones before them and those before these; bits above are ignored
EOQ_INLINE __m512i eoq_sum_of_two(const eoq_trellis_tables * t,
                                  __m512i                    code,
                                  __m512i                    last,
                                  __m512i                    before_last,
                                  int                        bits,
                                  int                        width,
                                  __m512i                    free_bits,
                                  int                        i) {
    const __m512i history = _mm512_xor_si512(before_last, eoq_look_up(t->older, last));
    return _mm512_add_epi8(eoq_choose(t, code, bits, width, free_bits, i), eoq_look_up(t->second, history));
}

// levels plus 128 of a block with codes of 4 bits
EOQ_INLINE void eoq_decode_trellis_4(const uint8_t *            qs,
                                     int                        bits,
                                     int                        width,
                                     const eoq_trellis_tables * t,
                                     __m512i                    free_bits,
                                     __m512i *                  levels) {
    if (width == 64) {
        const __m512i shift  = eoq_in_halves(_mm256_setzero_si256(), _mm256_set1_epi16(4));
        const __m512i byte   = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) qs));
        const __m512i before = _mm512_broadcast_i64x4(eoq_before_first_row(qs, 32));
        const __m512i last   = _mm512_mask_blend_epi64(0xF0, _mm512_srli_epi16(before, 4), byte);
        const __m512i oldest = _mm512_srlv_epi16(before, shift);
        levels[0] = eoq_sum_of_two(t, _mm512_srlv_epi16(byte, shift), last, oldest, bits, width, free_bits, 0);
        return;
    }
    const int vectors = width / 128;
    for (int i = 0; i < vectors; ++i) {
        const __m256i above  = _mm256_loadu_si256((const __m256i *) qs);
        const __m256i first  = eoq_before_first_row(qs, width / 2);
        const __m512i byte   = _mm512_loadu_si512(qs + 64 * i);
        const __m512i before = i > 0 ? _mm512_loadu_si512(qs + 64 * i - 32) :
                                       _mm512_mask_broadcast_i64x4(_mm512_castsi256_si512(first), 0xF0, above);
        const __m512i last   = _mm512_srli_epi16(before, 4);
        const __m512i high   = _mm512_srli_epi16(byte, 4);
        levels[i]            = eoq_sum_of_two(t, byte, last, before, bits, width, free_bits, i);
        levels[vectors + i]  = eoq_sum_of_two(t, high, byte, last, bits, width, free_bits, vectors + i);
    }
}

// levels plus 128 of a block, as unsigned bytes
EOQ_INLINE void eoq_decode_trellis(const uint8_t *            qs,
                                   int                        bits,
                                   int                        width,
                                   const eoq_trellis_tables * t,
                                   __m512i *                  levels) {
    const int code_bits = eoq_low_plane_bits(bits);
    __m512i   free_bits = _mm512_setzero_si512();
    if (eoq_has_free_bit(bits)) {
        free_bits = eoq_load_free_bits(qs + code_bits * width / 8, width);
    }
    if (code_bits == 2) {
        eoq_decode_trellis_2(qs, bits, width, t, free_bits, levels);
    } else {
        eoq_decode_trellis_4(qs, bits, width, t, free_bits, levels);
    }
}
