#pragma once

// Levels of the trellis types with NEON. In the planes of codes the byte before a byte is the one above it in rows of 32,
// two vectors, so a row's bytes before are the row that was decoded before it, as it is.

#include "eoq-kernel.h"

// which tables are used depends on the bits
typedef struct {
    int8x16_t  first[2];       // by the free bit, levels: by number, or what the code contributes
    int8x16_t  second;         // what the codes before contribute
    uint8x16_t older;          // to be XORed with the code before last, by the last code
    uint8x16_t numbers[2][3];  // of the first and the last two codes, by nibbles
} eoq_trellis_tables;

EOQ_INLINE eoq_trellis_tables eoq_load_trellis_tables(int bits) {
    eoq_trellis_tables t;
    t.first[0] = vld1q_s8(eoq_trellis_first(bits));
    t.first[1] = vld1q_s8(eoq_trellis_first(bits) + (eoq_has_free_bit(bits) ? 16 : 0));
    t.second   = vld1q_s8(eoq_trellis_second(bits));
    t.older    = vld1q_u8(eoq_trellis_older(bits));
    for (int i = 0; i < 3; ++i) {
        t.numbers[0][i] = vld1q_u8(eoq_trellis_numbers_01[i]);
        t.numbers[1][i] = vld1q_u8(eoq_trellis_numbers_23[i]);
    }
    return t;
}

// nibbles of 16 bytes of a plane
typedef struct {
    uint8x16_t low;
    uint8x16_t high;
} eoq_nibbles;

EOQ_INLINE eoq_nibbles eoq_split(uint8x16_t bytes) {
    const eoq_nibbles nibbles = { vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8(bytes, 4) };
    return nibbles;
}

EOQ_INLINE uint8x16_t eoq_xor_of_3(const uint8x16_t * tables, uint8x16_t x, uint8x16_t y, uint8x16_t z) {
    return veorq_u8(veorq_u8(vqtbl1q_u8(tables[0], x), vqtbl1q_u8(tables[1], y)), vqtbl1q_u8(tables[2], z));
}

// a plane of free bits: bit i of byte j is that of position i * width / 8 + j
typedef struct {
    uint8x16_t bits[2];
} eoq_free_bits;

EOQ_INLINE eoq_free_bits eoq_load_free_bits(const uint8_t * plane, int width) {
    eoq_free_bits free;
    free.bits[0] = width == 64 ? vcombine_u8(vld1_u8(plane), vld1_u8(plane)) : vld1q_u8(plane);
    free.bits[1] = width == 256 ? vld1q_u8(plane + 16) : free.bits[0];
    return free;
}

// what indices below 16 and the free bits choose, for positions 16 * g to 16 * g + 15
EOQ_INLINE int8x16_t
eoq_choose(const eoq_trellis_tables * t, uint8x16_t index, int bits, int width, const eoq_free_bits * free, int g) {
    const int8x16_t chosen = vqtbl1q_s8(t->first[0], index);
    if (!eoq_has_free_bit(bits)) {
        return chosen;
    }
    const int        vectors   = width == 256 ? 2 : 1;  // of the plane, with as many levels to a bit
    const int        per_level = width == 64 ? 2 : 1;   // bits in a vector of levels
    const uint8x16_t quarter   = vcombine_u8(vdup_n_u8(1), vdup_n_u8(2));
    const uint8_t    bit       = (uint8_t) (1 << (g / vectors * per_level));
    const uint8x16_t select    = width == 64 ? vmulq_u8(quarter, vdupq_n_u8(bit)) : vdupq_n_u8(bit);
    return vbslq_s8(vtstq_u8(free->bits[g % vectors], select), vqtbl1q_s8(t->first[1], index), chosen);
}

// levels by what the codes of 4 bits chose, the codes before them, and those before these
EOQ_INLINE int8x16_t eoq_sum_of_two(int8x16_t                  chosen,
                                    uint8x16_t                 last,
                                    uint8x16_t                 before_last,
                                    const eoq_trellis_tables * t) {
    const uint8x16_t history = veorq_u8(before_last, vqtbl1q_u8(t->older, last));
    return vaddq_s8(chosen, vqtbl1q_s8(t->second, history));
}

// levels of bytes 16 * i to 16 * i + 15 of a plane, and the bytes before them, to their places in the block
EOQ_INLINE void eoq_decode_bytes(eoq_nibbles                bytes,
                                 eoq_nibbles                before,
                                 int                        i,
                                 int                        bits,
                                 int                        width,
                                 const eoq_trellis_tables * t,
                                 const eoq_free_bits *      free,
                                 int8x16_t *                levels) {
    const int parts = eoq_low_plane_bits(bits) * width / 8 / 16;
    if (eoq_low_plane_bits(bits) == 4) {
        const int8x16_t low  = eoq_choose(t, bytes.low, bits, width, free, i);
        const int8x16_t high = eoq_choose(t, bytes.high, bits, width, free, parts + i);
        levels[i]            = eoq_sum_of_two(low, before.high, before.low, t);
        levels[parts + i]    = eoq_sum_of_two(high, bytes.low, before.high, t);
        return;
    }
    const eoq_nibbles n01 = eoq_split(eoq_xor_of_3(t->numbers[0], bytes.low, before.high, before.low));
    const eoq_nibbles n23 = eoq_split(eoq_xor_of_3(t->numbers[1], bytes.high, bytes.low, before.high));
    levels[i]             = eoq_choose(t, n01.low, bits, width, free, i);
    levels[parts + i]     = eoq_choose(t, n01.high, bits, width, free, parts + i);
    levels[2 * parts + i] = eoq_choose(t, n23.low, bits, width, free, 2 * parts + i);
    levels[3 * parts + i] = eoq_choose(t, n23.high, bits, width, free, 3 * parts + i);
}

// all levels of a block, 16 in a vector
EOQ_INLINE void eoq_decode_trellis(const uint8_t *            qs,
                                   int                        bits,
                                   int                        width,
                                   const eoq_trellis_tables * t,
                                   int8x16_t *                levels) {
    const int        code_bits = eoq_low_plane_bits(bits);
    const int        parts     = code_bits * width / 8 / 16;  // vectors in the plane
    const int        columns   = parts < 2 ? parts : 2;       // vectors in a row
    const uint8x16_t clear     = vsetq_lane_u8(0, vdupq_n_u8(0xFF), 0);
    eoq_free_bits    free;
    eoq_nibbles      before[2];
    if (eoq_has_free_bit(bits)) {
        free = eoq_load_free_bits(qs + 16 * parts, width);
    }
    // before the first row is the last one a byte further, behind a zero (of which there is a byte in front of the plane)
    for (int c = 0; c < columns; ++c) {
        const uint8x16_t last = vld1q_u8(qs + 16 * (parts - columns + c) - 1);
        before[c]             = eoq_split(c == 0 ? vandq_u8(last, clear) : last);
    }
    EOQ_UNROLL
    for (int i = 0; i < parts; ++i) {
        const eoq_nibbles bytes = eoq_split(vld1q_u8(qs + 16 * i));
        eoq_decode_bytes(bytes, before[i % columns], i, bits, width, t, &free, levels);
        before[i % columns] = bytes;
    }
}
