#pragma once

// Codes of the trellis types to levels (docs/format.md, section 3), one lane's share at a time. A level depends on
// the byte of its code and the one before in the chain, which stands above it in the plane: the words of one row have
// the bytes before those of the next row, each at its place. The first row's are in the last row, one byte further
// left.
//
// A look-up takes four digits of a word as they lie there, so that codes which share a byte, those of positions p and
// p + width / 2, come out side by side: a pair of words has four positions from p on and four from p + width / 2 on.

#include "eoq-words.cuh"

template <int bits, int width> struct eoq_trellis_layout {
    static constexpr int  code_bits    = bits < 4 ? 2 : 4;
    static constexpr int  plane_bytes  = code_bits * width / 8;
    static constexpr int  row_bytes    = plane_bytes < EOQ_CHAIN_COLUMNS ? plane_bytes : EOQ_CHAIN_COLUMNS;
    static constexpr int  rows         = plane_bytes / row_bytes;
    static constexpr int  lane_words   = code_bits;          // words of the plane for each lane of a product
    static constexpr int  row_words    = lane_words / rows;  // those of them that are side by side
    static constexpr int  free_bytes   = width / 8;          // of the plane of free bits, where there is one
    static constexpr bool has_free_bit = bits != code_bits;
};

// pairs of words of levels of a lane of a product
#define EOQ_LANE_PAIRS 4

// first position of a lane's pair
template <int bits, int width> EOQ_HD int eoq_pair_position(int lane, int pair) {
    typedef eoq_trellis_layout<bits, width> layout;
    const int                               word = pair % layout::lane_words;
    const int start = pair / layout::lane_words * layout::plane_bytes + word / layout::row_words * layout::row_bytes;
    return start + 4 * (lane * layout::row_words + word % layout::row_words);
}

// ---- look-ups

struct eoq_bytes_16 {
    uint32_t words[4];
};

// 16 entries of a table from `first` on
template <typename table> EOQ_HD constexpr eoq_bytes_16 eoq_biased(const table & levels, int bias, int first = 0) {
    return { { eoq_packed(levels, first, bias), eoq_packed(levels, first + 4, bias),
               eoq_packed(levels, first + 8, bias), eoq_packed(levels, first + 12, bias) } };
}

EOQ_HD constexpr bool eoq_has_no_sign(const eoq_bytes_16 & t) {
    return ((t.words[0] | t.words[1] | t.words[2] | t.words[3]) & 0x80808080u) == 0;
}

// Values of the four lowest digits from 16 bytes without a sign: one half of them gives the value, the other one 0.
EOQ_HD uint32_t eoq_look_up_four(uint32_t digits, const eoq_bytes_16 & t) {
    return eoq_permute(t.words[0], t.words[1], digits) + eoq_permute(t.words[2], t.words[3], digits ^ 0x8888u);
}

template <typename table> EOQ_HD constexpr int eoq_lowest(const table & levels) {
    int lowest = levels[0];
    for (int i = 1; i < 16; ++i) {
        lowest = levels[i] < lowest ? levels[i] : lowest;
    }
    return lowest;
}

template <typename table> EOQ_HD constexpr int eoq_highest(const table & levels, int first = 0) {
    int highest = levels[first];
    for (int i = first + 1; i < first + 16; ++i) {
        highest = levels[i] > highest ? levels[i] : highest;
    }
    return highest;
}

EOQ_HD constexpr int eoq_lesser(int a, int b) {
    return a < b ? a : b;
}

// ---- codes of 2 bits

// both bits of each code, swapped
EOQ_HD uint32_t eoq_swap_bits(uint32_t codes) {
    return eoq_blend(codes << 1, codes >> 1, 0xAAAAAAAAu);
}

// Numbers of a word's levels as digits: `even` those of the first (low digits) and third code of each byte, `odd`
// those of the second and fourth. With the code i steps ago as c[i] and its bits swapped as s[i], the two low bits of
// a number are c[0] ^ s[3] ^ c[4], the high ones c[1] ^ s[2] ^ s[3].
EOQ_HD void eoq_trellis_numbers(uint32_t own, uint32_t before, uint32_t * even, uint32_t * odd) {
    const uint32_t swapped        = eoq_swap_bits(own);
    const uint32_t swapped_before = eoq_swap_bits(before);
    const uint32_t ago_1          = eoq_blend(own << 2, before >> 6, 0xFCFCFCFCu);
    const uint32_t swapped_ago_2  = eoq_blend(swapped << 4, swapped_before >> 4, 0xF0F0F0F0u);
    const uint32_t swapped_ago_3  = eoq_blend(swapped << 6, swapped_before >> 2, 0xC0C0C0C0u);
    const uint32_t low            = own ^ swapped_ago_3 ^ before;
    const uint32_t high           = ago_1 ^ swapped_ago_2 ^ swapped_ago_3;
    *even                         = eoq_blend(low, high << 2, 0x33333333u);
    *odd                          = eoq_blend(low >> 2, high, 0x33333333u);
}

// ---- codes of 4 bits

template <typename table> EOQ_HD constexpr bool eoq_is_linear(const table & older) {
    for (int i = 0; i < 16; ++i) {
        int sum = 0;
        for (int bit = 1; bit < 16; bit *= 2) {
            sum ^= i & bit ? older[bit] : 0;
        }
        if (sum != older[i]) {
            return false;
        }
    }
    return true;
}

static_assert(eoq_is_linear(eoq4t_older) && eoq_is_linear(eoq5t_older), "a table by bits, as XORs of shifted words");

// in each digit, the bits of `older` of a code that contain the code's bit `shift` places below
template <typename table> EOQ_HD constexpr uint32_t eoq_older_mask(const table & older, int shift) {
    uint32_t mask = 0;
    for (int bit = 0; bit < 4; ++bit) {
        const int from = bit - shift;
        if (from >= 0 && from < 4 && (older[1 << from] >> bit & 1)) {
            mask |= 0x11111111u << bit;
        }
    }
    return mask;
}

template <int bits, int shift> EOQ_HD uint32_t eoq_older_part(uint32_t codes) {
    constexpr uint32_t mask = bits == 4 ? eoq_older_mask(eoq4t_older, shift) : eoq_older_mask(eoq5t_older, shift);
    return (shift < 0 ? codes >> (shift < 0 ? -shift : 0) : codes << (shift < 0 ? 0 : shift)) & mask;
}

// numbers of the second levels of a word's codes as digits: code before last ^ older[last code]
template <int bits> EOQ_HD uint32_t eoq_trellis_history(uint32_t own, uint32_t before) {
    const uint32_t last = eoq_blend(before >> 4, own << 4, 0x0F0F0F0Fu);
    return before ^ eoq_older_part<bits, 0>(last) ^ eoq_older_part<bits, 1>(last) ^ eoq_older_part<bits, 2>(last) ^
           eoq_older_part<bits, 3>(last) ^ eoq_older_part<bits, -1>(last) ^ eoq_older_part<bits, -2>(last) ^
           eoq_older_part<bits, -3>(last);
}

// ---- levels

// A bias of levels that their highest bit is taken away with.
#define EOQ_BIAS_OF_SIGN 128

// Four levels plus `bias`, which leaves none of them below 0, by the one or the other table. Look-ups give seven bits each,
// and what is missing is added, so that no carry leaves a byte. Digits are numbers of levels or, with codes of 4 bits,
// codes and their histories.
template <int bits, int bias, int free_bit> EOQ_HD uint32_t eoq_trellis_sums(uint32_t digits, uint32_t histories) {
    constexpr int from = 16 * free_bit;
    if constexpr (bits < 4) {
        (void) histories;
        constexpr int          inside = eoq_lesser(bias, 127 - (bits == 2 ? EOQ2T_HIGHEST : EOQ3T_HIGHEST));
        constexpr eoq_bytes_16 t =
            bits == 2 ? eoq_biased(eoq2t_levels, inside) : eoq_biased(eoq3t_levels, inside, from);
        static_assert(eoq_has_no_sign(t), "the bias is too small");
        return eoq_look_up_four(digits, t) + (bias - inside) * 0x01010101u;
    } else {
        constexpr int          lowest = bits == 4 ? eoq_lowest(eoq4t_second) : eoq_lowest(eoq5t_second);
        constexpr int          room   = 127 - (bits == 4 ? eoq_highest(eoq4t_first) : eoq_highest(eoq5t_first));
        constexpr int          second = bias - eoq_lesser(room, bias + lowest);  // the same for both tables
        constexpr int          space  = 127 - (bits == 4 ? eoq_highest(eoq4t_first) : eoq_highest(eoq5t_first, from));
        constexpr int          inside = eoq_lesser(bias - second, space);
        constexpr eoq_bytes_16 t = bits == 4 ? eoq_biased(eoq4t_first, inside) : eoq_biased(eoq5t_first, inside, from);
        constexpr eoq_bytes_16 u = bits == 4 ? eoq_biased(eoq4t_second, second) : eoq_biased(eoq5t_second, second);
        static_assert(eoq_has_no_sign(t) && eoq_has_no_sign(u), "the bias is too small");
        return eoq_look_up_four(digits, t) + eoq_look_up_four(histories, u) + (bias - second - inside) * 0x01010101u;
    }
}

// Words of a plane of free bits, one for each word of a pair: bit i of a byte is that of position i * width / 8 + its
// number, and that of the code half a block behind is four bits above it.
struct eoq_pair_bits {
    uint32_t words[2];
};

EOQ_HD eoq_pair_bits eoq_bits_of_pairs(uint32_t word) {
    return { { eoq_permute(word, word >> 4, 0x5140), eoq_permute(word, word >> 4, 0x7362) } };
}

// A pair's levels from its words of digits, plus a bias other than that of the sign; `bit` is that of the free bit of its
// first position.
template <int bits, int bias>
EOQ_HD void eoq_trellis_pair(uint32_t digits, uint32_t histories, const eoq_pair_bits & free, int bit, uint32_t * out) {
    EOQ_UNROLLED
    for (int i = 0; i < 2; ++i) {
        const uint32_t own = digits >> (16 * i), history = histories >> (16 * i);
        uint32_t       sums = eoq_trellis_sums<bits, bias, 0>(own, history);
        if constexpr (bits % 2 != 0) {
            const uint32_t mask = (free.words[i] >> bit & 0x01010101u) * 0xFF;
            sums                = eoq_blend(eoq_trellis_sums<bits, bias, 1>(own, history), sums, mask);
        }
        out[i] = bias == EOQ_BIAS_OF_SIGN ? sums ^ 0x80808080u : sums;
    }
}

// both words of a pair to the order of positions: out[0] from p on, out[1] from p + width / 2 on
EOQ_HD void eoq_in_order(uint32_t * pair) {
    const uint32_t first = eoq_byte_perm(pair[0], pair[1], 0x6420), second = eoq_byte_perm(pair[0], pair[1], 0x7531);
    pair[0] = first;
    pair[1] = second;
}

// ---- a lane of a product

// The words of a lane, row by row, and the bytes before those of its first row. The aligned word in front of `qs` is
// read or, where `qs` is no multiple of 4, the one that it lies in. A matrix begins at a multiple of 4, so the first
// is inside.
template <int bits, int width>
EOQ_HD void eoq_load_chain(const uint8_t * qs, int lane, uint32_t * words, uint32_t * before) {
    typedef eoq_trellis_layout<bits, width> layout;
    const uint32_t                          own     = 0x7654 - ((uint32_t) (uintptr_t) qs & 2) * 0x1111;
    const uint8_t *                         aligned = qs + 4 * layout::row_words * lane - 1;
    aligned -= (uintptr_t) aligned & 3;
    EOQ_UNROLLED
    for (int row = 0; row < layout::rows; ++row) {
        uint32_t word = eoq_load_aligned(aligned + row * layout::row_bytes);
        EOQ_UNROLLED
        for (int i = 0; i < layout::row_words; ++i) {
            const uint32_t next                = eoq_load_aligned(aligned + row * layout::row_bytes + 4 * (i + 1));
            words[row * layout::row_words + i] = eoq_permute(word, next, own);
            if (row == layout::rows - 1) {
                before[i] = eoq_permute(word, next, own - 0x1111);
            }
            word = next;
        }
    }
    // the chain starts with zeros
    before[0] &= lane == 0 ? 0xFFFFFF00u : 0xFFFFFFFFu;
}

// A lane's codes of a block as levels: pair i at out[2 * i] and out[2 * i + 1]; plus a bias other than that of the sign.
template <int bits, int width, int bias = EOQ_BIAS_OF_SIGN>
EOQ_HD void eoq_lane_pairs(const uint8_t * block, int lane, uint32_t * out) {
    typedef eoq_trellis_layout<bits, width> layout;
    // a word has the free bits of all pairs or, in narrower blocks, of every second one
    constexpr int                           n = width == 256 ? 1 : 2;
    uint32_t                                words[layout::lane_words], first[layout::row_words], free[n];
    eoq_load_chain<bits, width>(block + 2, lane, words, first);
    if constexpr (layout::has_free_bit) {
        const int start = eoq_pair_position<bits, width>(lane, 0) % layout::free_bytes;
        eoq_load_words<n>(block + 2 + layout::plane_bytes + start, free);
    }
    EOQ_UNROLLED
    for (int pair = 0; pair < EOQ_LANE_PAIRS; ++pair) {
        const int      i       = pair % layout::lane_words;
        const uint32_t before  = i < layout::row_words ? first[i % layout::row_words] : words[i - layout::row_words];
        eoq_pair_bits  of_pair = { { 0, 0 } };
        int            bit     = 0;
        if constexpr (layout::has_free_bit) {
            of_pair = eoq_bits_of_pairs(free[pair % n]);
            // with 256, `lane` has no part in it
            bit     = width == 256 ? pair : eoq_pair_position<bits, width>(lane, pair) / layout::free_bytes;
        }
        if constexpr (layout::code_bits == 2) {
            uint32_t even, odd;
            eoq_trellis_numbers(words[i], before, &even, &odd);
            eoq_trellis_pair<bits, bias>(pair < layout::lane_words ? even : odd, 0, of_pair, bit, out + 2 * pair);
        } else {
            const uint32_t history = eoq_trellis_history<bits>(words[i], before);
            eoq_trellis_pair<bits, bias>(words[i], history, of_pair, bit, out + 2 * pair);
        }
    }
}

// ---- activations of blocks of 256

// Eight blocks q8_1 in another order: a head for each lane of a product, then values as the lanes' pairs have them,
// each eight values of positions p to p + 3 and p + 128 to p + 131. Two pairs of a lane are side by side: 16 bytes,
// and the other two as far behind those as half a block is.
struct eoq_q8_256 {
    uint32_t heads[8];  // the block's scale as fp16, and above it the sum of the lane's values
    int8_t   qs[256];
};

// where the eight values of the pair whose first position is 4 * i begin
EOQ_HD int eoq_pair_slot(int i) {
    return 128 * (i / 16) + 16 * (i % 8) + 8 * (i / 8 % 2);
}

// ---- dequantising: a group of width / 8 lanes, a pair of words each

// four bytes from any address; nothing but the aligned words that they lie in is read
EOQ_HD uint32_t eoq_load_bytes(const uint8_t * from) {
    const int       offset  = (int) ((uintptr_t) from & 3);
    const uint8_t * aligned = from - offset;
    const uint32_t  word    = eoq_load_aligned(aligned);
    return eoq_funnel_shift(word, eoq_load_aligned(aligned + (offset != 0 ? 4 : 0)), 8 * offset);
}

// levels of positions 4 * lane to 4 * lane + 3 and, in out[1], those half a block behind
template <int bits, int width> EOQ_HD void eoq_pair_levels(const uint8_t * block, int lane, uint32_t * out) {
    typedef eoq_trellis_layout<bits, width> layout;
    constexpr int                           words    = layout::plane_bytes / 4;
    const uint8_t *                         qs       = block + 2;
    const int                               j        = 4 * (lane % words);
    const int                               last_row = layout::plane_bytes - layout::row_bytes;
    const int      above  = j >= layout::row_bytes ? j - layout::row_bytes : last_row + (j > 0 ? j - 1 : 0);
    const uint32_t own    = eoq_load_bytes(qs + j);
    const uint32_t before = eoq_load_bytes(qs + above) << (j > 0 ? 0 : 8);
    eoq_pair_bits  free   = { { 0, 0 } };
    const int      bit    = 4 * lane / layout::free_bytes;
    if constexpr (layout::has_free_bit) {
        free = eoq_bits_of_pairs(eoq_load_bytes(qs + layout::plane_bytes + 4 * lane % layout::free_bytes));
    }
    if constexpr (layout::code_bits == 2) {
        uint32_t even, odd;
        eoq_trellis_numbers(own, before, &even, &odd);
        eoq_trellis_pair<bits, EOQ_BIAS_OF_SIGN>(lane < words ? even : odd, 0, free, bit, out);
    } else {
        eoq_trellis_pair<bits, EOQ_BIAS_OF_SIGN>(own, eoq_trellis_history<bits>(own, before), free, bit, out);
    }
    eoq_in_order(out);
}
