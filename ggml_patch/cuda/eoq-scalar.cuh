#pragma once

// Codes of the scalar types to levels, one lane's share at a time.

#include "eoq-words.cuh"

// Where the codes of a block lie (docs/format.md, section 2). The low plane is read in words of 32 bits; each has four
// codes for each part of the block.
template <int bits, int width> struct eoq_layout {
    static constexpr int low_bits    = bits < 4 ? 2 : 4;
    static constexpr int parts       = 8 / low_bits;
    static constexpr int part_codes  = width / parts;
    static constexpr int low_bytes   = low_bits * width / 8;
    static constexpr int high_planes = bits - low_bits;
    static constexpr int plane_bytes = width / 8;
    static constexpr int lane_words =
        EOQ_LANE_CODES / (4 * parts);  // words of the low plane for each lane of a product
};

// bits 0 to 3, each to the lowest bit of a byte
EOQ_HD uint32_t eoq_spread(uint32_t four_bits) {
    return (four_bits & 0xF) * 0x00204081u & 0x01010101u;
}

// Values of eight indices, the hexadecimal digits of `digits`, from 16 bytes t0 to t3: those of even digits to `even`.
EOQ_HD void
eoq_look_up_16(uint32_t digits, uint32_t t0, uint32_t t1, uint32_t t2, uint32_t t3, uint32_t * even, uint32_t * odd) {
    // the highest bit of a digit chooses between the halves of the table
    const uint32_t halves = 0x32103210u | (digits & 0x88888888u) >> 1;
    const uint32_t a      = eoq_byte_perm(eoq_byte_perm(t0, t1, digits), eoq_byte_perm(t2, t3, digits), halves);
    const uint32_t b =
        eoq_byte_perm(eoq_byte_perm(t0, t1, digits >> 16), eoq_byte_perm(t2, t3, digits >> 16), halves >> 16);
    *even = eoq_byte_perm(a, b, 0x6420);
    *odd  = eoq_byte_perm(a, b, 0x7531);
}

// the same from 8 bytes; the highest bit of a digit is ignored
EOQ_HD void eoq_look_up_8(uint32_t digits, uint32_t t0, uint32_t t1, uint32_t * even, uint32_t * odd) {
    const uint32_t a = eoq_byte_perm(t0, t1, digits);
    const uint32_t b = eoq_byte_perm(t0, t1, digits >> 16);
    *even            = eoq_byte_perm(a, b, 0x6420);
    *odd             = eoq_byte_perm(a, b, 0x7531);
}

// Bytes negated where `negative` has a 1; none of them is 0, so no carry leaves a byte.
EOQ_HD uint32_t eoq_negate(uint32_t magnitudes, uint32_t negative) {
    return (magnitudes ^ negative * 0xFF) + negative;
}

// The levels of the codes of one word, for each number of bits: out[p] has those of part p in its bytes. `high` has the
// four bits of plane h for part p at [h * parts + p], lowest bits; what stands above them is ignored.

EOQ_HD void eoq_levels_2(uint32_t low, uint32_t * out) {
    EOQ_PACKED(levels, eoq2_levels, 0);
    eoq_look_up_8(low & 0x33333333u, levels, levels, &out[0], &out[2]);
    eoq_look_up_8(low >> 2 & 0x33333333u, levels, levels, &out[1], &out[3]);
}

EOQ_HD void eoq_levels_3(uint32_t low, const uint32_t * high, uint32_t * out) {
    EOQ_PACKED(first, eoq3_levels, 0);
    EOQ_PACKED(second, eoq3_levels, 4);
    const uint32_t even = (low & 0x33333333u) | eoq_spread(high[0]) << 2 | eoq_spread(high[2]) << 6;
    const uint32_t odd  = (low >> 2 & 0x33333333u) | eoq_spread(high[1]) << 2 | eoq_spread(high[3]) << 6;
    eoq_look_up_8(even, first, second, &out[0], &out[2]);
    eoq_look_up_8(odd, first, second, &out[1], &out[3]);
}

EOQ_HD void eoq_levels_4(uint32_t low, uint32_t * out) {
    EOQ_PACKED(t0, eoq4_levels, 0);
    EOQ_PACKED(t1, eoq4_levels, 4);
    EOQ_PACKED(t2, eoq4_levels, 8);
    EOQ_PACKED(t3, eoq4_levels, 12);
    eoq_look_up_16(low, t0, t1, t2, t3, &out[0], &out[1]);
}

// With 5 and 6 bits the tables are symmetric halves: the highest bit is the sign, and the codes of negative levels
// count backwards.
EOQ_HD void eoq_levels_5(uint32_t low, const uint32_t * high, uint32_t * out) {
    EOQ_PACKED(t0, eoq5_levels, 16);
    EOQ_PACKED(t1, eoq5_levels, 20);
    EOQ_PACKED(t2, eoq5_levels, 24);
    EOQ_PACKED(t3, eoq5_levels, 28);
    const uint32_t negative[2] = { eoq_spread(~high[0]), eoq_spread(~high[1]) };
    const uint32_t digits      = low ^ (negative[0] * 0x0F | negative[1] * 0xF0);
    eoq_look_up_16(digits, t0, t1, t2, t3, &out[0], &out[1]);
    out[0] = eoq_negate(out[0], negative[0]);
    out[1] = eoq_negate(out[1], negative[1]);
}

EOQ_HD void eoq_levels_6(uint32_t low, const uint32_t * high, uint32_t * out) {
    EOQ_PACKED(t0, eoq6_levels, 32);
    EOQ_PACKED(t1, eoq6_levels, 36);
    EOQ_PACKED(t2, eoq6_levels, 40);
    EOQ_PACKED(t3, eoq6_levels, 44);
    EOQ_PACKED(t4, eoq6_levels, 48);
    EOQ_PACKED(t5, eoq6_levels, 52);
    EOQ_PACKED(t6, eoq6_levels, 56);
    EOQ_PACKED(t7, eoq6_levels, 60);
    const uint32_t negative[2] = { eoq_spread(~high[2]), eoq_spread(~high[3]) };
    const uint32_t digits      = low ^ (negative[0] * 0x0F | negative[1] * 0xF0);
    uint32_t       small[2], large[2];
    eoq_look_up_16(digits, t0, t1, t2, t3, &small[0], &small[1]);
    eoq_look_up_16(digits, t4, t5, t6, t7, &large[0], &large[1]);
    for (int p = 0; p < 2; ++p) {
        const uint32_t is_large = (eoq_spread(high[p]) ^ negative[p]) * 0xFF;
        out[p]                  = eoq_negate((small[p] & ~is_large) | (large[p] & is_large), negative[p]);
    }
}

template <int bits> EOQ_HD void eoq_levels_of_word(uint32_t low, const uint32_t * high, uint32_t * out) {
    (void) high;
    if constexpr (bits == 2) {
        eoq_levels_2(low, out);
    } else if constexpr (bits == 3) {
        eoq_levels_3(low, high, out);
    } else if constexpr (bits == 4) {
        eoq_levels_4(low, out);
    } else if constexpr (bits == 5) {
        eoq_levels_5(low, high, out);
    } else {
        static_assert(bits == 6, "no such type");
        eoq_levels_6(low, high, out);
    }
}

// A lane's codes of a block as levels: word i of part p, at out[i * parts + p], has codes p * part_codes + 4 * j to
// 4 * j + 3 of the block, j = lane * lane_words + i.
template <int bits, int width> EOQ_HD void eoq_scalar_lane_levels(const uint8_t * block, int lane, uint32_t * out) {
    typedef eoq_layout<bits, width> layout;
    constexpr int                   n_high = layout::high_planes * layout::parts;
    const uint8_t *                 qs     = block + 2;
    uint32_t                        low[layout::lane_words];
    eoq_load_words<layout::lane_words>(qs + 4 * layout::lane_words * lane, low);
    uint32_t high[n_high > 0 ? n_high : 1] = { 0 };
    EOQ_UNROLLED
    for (int i = 0; i < n_high; ++i) {
        const int       plane = i / layout::parts, part = i % layout::parts;
        const uint8_t * bytes = qs + layout::low_bytes + plane * layout::plane_bytes + part * layout::part_codes / 8;
        if (layout::lane_words == 2) {
            high[i] = bytes[lane];
        } else {
            high[i] = eoq_load_16_bits(bytes + 2 * lane);
        }
    }
    EOQ_UNROLLED
    for (int i = 0; i < layout::lane_words; ++i) {
        eoq_levels_of_word<bits>(low[i], high, out + i * layout::parts);
        EOQ_UNROLLED
        for (int h = 0; h < n_high; ++h) {
            high[h] >>= 4;
        }
    }
}

// first code of a lane's word i of part p, a multiple of 4
template <int bits, int width> EOQ_HD int eoq_scalar_lane_code(int lane, int i, int p) {
    typedef eoq_layout<bits, width> layout;
    return p * layout::part_codes + 4 * (lane * layout::lane_words + i);
}

// levels of a lane's four codes, 4 * lane to 4 * lane + 3 of the block
template <int bits, int width> EOQ_HD uint32_t eoq_four_levels(const uint8_t * block, int lane) {
    typedef eoq_layout<bits, width> layout;
    constexpr int                   words  = layout::part_codes / 4;
    constexpr int                   n_high = layout::high_planes * layout::parts;
    const uint8_t *                 qs     = block + 2;
    const int                       word   = lane % words;
    uint32_t                        low;
    eoq_load_words<1>(qs + 4 * word, &low);
    uint32_t high[n_high > 0 ? n_high : 1] = { 0 };
    EOQ_UNROLLED
    for (int i = 0; i < n_high; ++i) {
        const int first = i % layout::parts * layout::part_codes + 4 * word;
        high[i]         = qs[layout::low_bytes + i / layout::parts * layout::plane_bytes + first / 8] >> (first % 8);
    }
    uint32_t levels[layout::parts];
    eoq_levels_of_word<bits>(low, high, levels);
    uint32_t own = levels[0];
    EOQ_UNROLLED
    for (int p = 1; p < layout::parts; ++p) {
        own = lane / words == p ? levels[p] : own;
    }
    return own;
}
