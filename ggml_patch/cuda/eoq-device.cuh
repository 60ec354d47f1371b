#pragma once

// The EOQ formats on a GPU, one lane's share at a time: codes to levels, dot products, the rotation. Everything here is
// also compiled for the host, where tests hold it against the reference; a warp is then a loop over its lanes.

#include "eoq-format.h"

#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__) || defined(__HIPCC__) || defined(__MUSACC__)
#    define EOQ_HD static __host__ __device__ __forceinline__
#else
#    define EOQ_HD static inline
#endif

// before loops over registers
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
#    define EOQ_UNROLLED _Pragma("unroll")
#else
#    define EOQ_UNROLLED
#endif

#if defined(__CUDA_ARCH__) && !defined(GGML_USE_HIP) && !defined(GGML_USE_MUSA)
#    define EOQ_ON_NVIDIA
#endif

// a lane of a product has this many codes of a block
#define EOQ_LANE_CODES 32

// Where the codes of a block lie (docs/format.md, section 2). The low plane is read in words of 32 bits; each has four
// codes for each part of the block.
template <int bits, int width> struct eoq_layout {
    static constexpr int low_bits    = bits < 4 ? 2 : 4;
    static constexpr int parts       = 8 / low_bits;
    static constexpr int part_codes  = width / parts;
    static constexpr int low_bytes   = low_bits * width / 8;
    static constexpr int high_planes = bits - low_bits;
    static constexpr int plane_bytes = width / 8;
    static constexpr int block_bytes = 2 + bits * width / 8;
    static constexpr int lanes       = width / EOQ_LANE_CODES;        // lanes that share a block
    static constexpr int lane_words  = EOQ_LANE_CODES / (4 * parts);  // words of the low plane for each of them
};

// bytes of a and b (together 0 to 7) by the four lowest hexadecimal digits of `selectors`, whose highest bits are ignored
EOQ_HD uint32_t eoq_byte_perm(uint32_t a, uint32_t b, uint32_t selectors) {
#if defined(EOQ_ON_NVIDIA)
    return __byte_perm(a, b, selectors);
#else
    const uint64_t bytes  = (uint64_t) b << 32 | a;
    uint32_t       result = 0;
    for (int i = 0; i < 4; ++i) {
        result |= (uint32_t) (bytes >> (8 * (selectors >> (4 * i) & 7)) & 0xFF) << (8 * i);
    }
    return result;
#endif
}

// sum + the four products of signed bytes
EOQ_HD int32_t eoq_dp4a(uint32_t a, uint32_t b, int32_t sum) {
#if defined(EOQ_ON_NVIDIA) && __CUDA_ARCH__ >= 610
    return __dp4a((int) a, (int) b, sum);
#else
    for (int i = 0; i < 4; ++i) {
        sum += (int8_t) (a >> (8 * i)) * (int8_t) (b >> (8 * i));
    }
    return sum;
#endif
}

// bits 0 to 3, each to the lowest bit of a byte
EOQ_HD uint32_t eoq_spread(uint32_t four_bits) {
    return (four_bits & 0xF) * 0x00204081u & 0x01010101u;
}

// four levels of a table as bytes of a word; a constant wherever it is used
template <typename table> EOQ_HD constexpr uint32_t eoq_packed(const table & levels, int first) {
    return (uint32_t) (uint8_t) levels[first] | (uint32_t) (uint8_t) levels[first + 1] << 8 |
           (uint32_t) (uint8_t) levels[first + 2] << 16 | (uint32_t) (uint8_t) levels[first + 3] << 24;
}

#define EOQ_PACKED(name, levels, first) constexpr uint32_t name = eoq_packed(levels, first)

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

// With 5 and 6 bits the tables are symmetric halves: the highest bit is the sign, and the codes of negative levels count
// backwards.
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

EOQ_HD uint32_t eoq_load_aligned(const uint8_t * from) {
#if defined(EOQ_ON_NVIDIA)
    return *(const uint32_t *) from;
#else
    uint32_t word;
    memcpy(&word, from, sizeof(word));
    return word;
#endif
}

// the lower half of the 64 bits of `high` and `low`, shifted to the right by less than 32
EOQ_HD uint32_t eoq_funnel_shift(uint32_t low, uint32_t high, uint32_t shift) {
#if defined(EOQ_ON_NVIDIA)
    return __funnelshift_r(low, high, shift);
#else
    return (uint32_t) (((uint64_t) high << 32 | low) >> shift);
#endif
}

// `n` words from an address that is a multiple of 2; nothing but the aligned words that they lie in is read
template <int n> EOQ_HD void eoq_load_words(const uint8_t * from, uint32_t * words) {
    const bool      is_odd  = (uintptr_t) from & 2;
    const uint8_t * aligned = from - (is_odd ? 2 : 0);
    const uint32_t  shift   = is_odd ? 16 : 0;
    uint32_t        word    = eoq_load_aligned(aligned);
    EOQ_UNROLLED
    for (int i = 0; i < n; ++i) {
        const uint32_t next = eoq_load_aligned(aligned + 4 * (i + 1 < n || is_odd ? i + 1 : i));
        words[i]            = eoq_funnel_shift(word, next, shift);
        word                = next;
    }
}

EOQ_HD uint32_t eoq_load_16_bits(const uint8_t * from) {
#if defined(EOQ_ON_NVIDIA)
    return *(const uint16_t *) from;
#else
    uint16_t bits;
    memcpy(&bits, from, sizeof(bits));
    return bits;
#endif
}

// A lane's codes of a block as levels: word i of part p, at out[i * parts + p], has codes p * part_codes + 4 * j to
// 4 * j + 3 of the block, j = lane * lane_words + i.
template <int bits, int width> EOQ_HD void eoq_lane_levels(const uint8_t * block, int lane, uint32_t * out) {
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
template <int bits, int width> EOQ_HD int eoq_lane_code(int lane, int i, int p) {
    typedef eoq_layout<bits, width> layout;
    return p * layout::part_codes + 4 * (lane * layout::lane_words + i);
}

// Scale of a block, as weights have it before the transform. Every fp16 value times 2^-12 is a float32.
EOQ_HD float eoq_block_scale(float d) {
    return d * EOQ_LEVEL_UNIT;
}

// A lane's part of the product of a block and rotated activations, without the block's scale. `activations` gives four
// values as bytes, word(j) those from 4 * j on, and scale(j) the scale of values 32 * j to 32 * j + 31.
template <int bits, int width, typename activations>
EOQ_HD float eoq_lane_dot(const uint8_t * block, int lane, const activations & y) {
    typedef eoq_layout<bits, width> layout;
    uint32_t                        levels[layout::lane_words * layout::parts];
    eoq_lane_levels<bits, width>(block, lane, levels);
    float sum = 0.0f;
    EOQ_UNROLLED
    for (int p = 0; p < layout::parts; ++p) {
        const int first = eoq_lane_code<bits, width>(lane, 0, p);
        int32_t   dot   = 0;
        EOQ_UNROLLED
        for (int i = 0; i < layout::lane_words; ++i) {
            dot = eoq_dp4a(levels[i * layout::parts + p], y.word(first / 4 + i), dot);
        }
        sum += y.scale(first / 32) * (float) dot;
    }
    return sum;
}

// ---- rotation: a group of width / 4 lanes with four values each, of positions 4 * lane to 4 * lane + 3

// bit i set: the sign of value i is negative
EOQ_HD uint32_t eoq_lane_signs(int lane) {
    constexpr uint32_t w0 = eoq_sign_words[0], w1 = eoq_sign_words[1], w2 = eoq_sign_words[2], w3 = eoq_sign_words[3];
    const int          word = lane / 8;
    const uint32_t     bits = word == 0 ? w0 : word == 1 ? w1 : word == 2 ? w2 : w3;
    return bits >> (4 * (lane % 8)) & 0xF;
}

// the butterflies of stride 1 and 2, in that order (section 3)
template <typename number> EOQ_HD void eoq_butterflies_in_lane(number * v) {
    const number a = v[0] + v[1], b = v[0] - v[1], c = v[2] + v[3], d = v[2] - v[3];
    v[0] = a + c;
    v[1] = b + d;
    v[2] = a - c;
    v[3] = b - d;
}

// one butterfly of stride 4 * distance: `other` is the value of lane ^ distance
template <typename number> EOQ_HD number eoq_butterfly(number own, number other, int lane, int distance) {
    return lane & distance ? other - own : own + other;
}

// ---- dequantising: the same groups of lanes

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

// a weight from the transformed levels: one rounding, so that its bits are the reference's
EOQ_HD float eoq_weight(int32_t transformed, bool negative, float block_scale) {
    return (float) (negative ? -transformed : transformed) * block_scale;
}
