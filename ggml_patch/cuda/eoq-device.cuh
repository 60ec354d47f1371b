#pragma once

// The EOQ formats on a GPU, one lane's share at a time: codes to levels, dot products, the rotation.

#include "eoq-scalar.cuh"
#include "eoq-trellis.cuh"

// Scale of a block, as weights have it before the transform. Every fp16 value times 2^-12 is a float32.
EOQ_HD float eoq_block_scale(float d) {
    return d * EOQ_LEVEL_UNIT;
}

// ---- products: width / 32 lanes a block

// A lane's codes of a block as levels, eight words of four. `eoq_lane_word` says which are in which.
template <int code, int width> EOQ_HD void eoq_lane_levels(const uint8_t * block, int lane, uint32_t * out) {
    if constexpr (!EOQ_IS_TRELLIS(code)) {
        eoq_scalar_lane_levels<code, width>(block, lane, out);
    } else {
        eoq_lane_pairs<EOQ_BITS(code), width>(block, lane, out);
        // activations of narrower blocks are in llama.cpp's order
        if constexpr (width < 256) {
            EOQ_UNROLLED
            for (int pair = 0; pair < EOQ_LANE_PAIRS; ++pair) {
                eoq_in_order(out + 2 * pair);
            }
        }
    }
}

// number in a block of the word of activations, four values, that belongs to out[i]
template <int code, int width> EOQ_HD int eoq_lane_word(int lane, int i) {
    if constexpr (!EOQ_IS_TRELLIS(code)) {
        constexpr int parts = eoq_layout<code, width>::parts;
        return eoq_scalar_lane_code<code, width>(lane, i / parts, i % parts) / 4;
    } else if constexpr (width == 256) {
        return eoq_pair_slot(8 * (i / 2) + lane) / 4 + i % 2;
    } else {
        return (eoq_pair_position<EOQ_BITS(code), width>(lane, i / 2) + i % 2 * (width / 2)) / 4;
    }
}

// how many words of a lane have activations that share a scale
template <int code, int width> EOQ_HD constexpr int eoq_scale_words() {
    if constexpr (EOQ_IS_TRELLIS(code)) {
        return width == 256 ? 8 : 256 / width;
    } else {
        return eoq_layout<code, width>::lane_words;
    }
}

// index in `out` of word i of those that share scale number `group`
template <int code, int width> EOQ_HD int eoq_lane_index(int group, int i) {
    if constexpr (!EOQ_IS_TRELLIS(code)) {
        return i * eoq_layout<code, width>::parts + group;
    } else {
        const int word = group * eoq_scale_words<code, width>() + i;
        return width == 256 ? word : 2 * (word % EOQ_LANE_PAIRS) + word / EOQ_LANE_PAIRS;
    }
}

// A lane's part of the product of a block and rotated activations, without the block's scale. `activations` gives four
// values as bytes, word(j) those from 4 * j on, and scale(j) the scale of values 32 * j to 32 * j + 31.
template <int code, int width, typename activations>
EOQ_HD float eoq_lane_dot(const uint8_t * block, int lane, const activations & y) {
    constexpr int n = eoq_scale_words<code, width>();
    uint32_t      levels[8];
    eoq_lane_levels<code, width>(block, lane, levels);
    float sum = 0.0f;
    EOQ_UNROLLED
    for (int group = 0; group < 8 / n; ++group) {
        int32_t dot = 0;
        EOQ_UNROLLED
        for (int i = 0; i < n; ++i) {
            const int index = eoq_lane_index<code, width>(group, i);
            dot             = eoq_dp4a(levels[index], y.word(eoq_lane_word<code, width>(lane, index)), dot);
        }
        const int first = eoq_lane_word<code, width>(lane, eoq_lane_index<code, width>(group, 0));
        sum += y.scale(first / 8) * (float) dot;
    }
    return sum;
}

// The same with a block of 256, and without the activations' scale too. `words` are the lane's eight of eoq_q8_256 and
// `total` the sum of their values: what levels of up to seven bits have for a bias is subtracted with it.
template <int code>
EOQ_HD int32_t eoq_lane_dot_256(const uint8_t * block, int lane, const uint32_t * words, int32_t total) {
    constexpr int bits   = EOQ_BITS(code);
    constexpr int lowest = bits == 2 ? EOQ2T_LOWEST : bits == 3 ? EOQ3T_LOWEST : EOQ4T_LOWEST;
    constexpr int bias   = bits == 5 ? EOQ_BIAS_OF_SIGN : -lowest;
    uint32_t      levels[8];
    eoq_lane_pairs<bits, 256, bias>(block, lane, levels);
    int32_t dot = bias == EOQ_BIAS_OF_SIGN ? 0 : -bias * total;
    EOQ_UNROLLED
    for (int i = 0; i < 8; ++i) {
        dot = eoq_dp4a(levels[i], words[i], dot);
    }
    return dot;
}

// ---- rotation: a group of lanes with four values each, of positions 4 * lane to 4 * lane + 3, and with blocks of 256
// four more, of those half a block behind

// bit i set: the sign of position 128 * part + 4 * (lane % 32) + i is negative
template <int part> EOQ_HD uint32_t eoq_lane_signs(int lane) {
    constexpr uint32_t w0 = eoq_sign_words[4 * part], w1 = eoq_sign_words[4 * part + 1];
    constexpr uint32_t w2 = eoq_sign_words[4 * part + 2], w3 = eoq_sign_words[4 * part + 3];
    const int          word = lane / 8 % 4;
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

// a weight from the transformed levels: one rounding, so that its bits are the reference's
EOQ_HD float eoq_weight(int32_t transformed, bool negative, float block_scale) {
    return (float) (negative ? -transformed : transformed) * block_scale;
}

// ---- dequantising

// a group of lanes has a block, with four weights each or, of the trellis types, two times four
template <int code, int width> struct eoq_group {
    static constexpr int halves = EOQ_IS_TRELLIS(code) ? 2 : 1;
    static constexpr int values = 4 * halves;
    static constexpr int lanes  = width / values;
};

// a lane's levels: word h has those of positions h * width / 2 + 4 * lane and the three that follow
template <int code, int width> EOQ_HD void eoq_group_levels(const uint8_t * block, int lane, uint32_t * words) {
    if constexpr (EOQ_IS_TRELLIS(code)) {
        eoq_pair_levels<EOQ_BITS(code), width>(block, lane, words);
    } else {
        words[0] = eoq_four_levels<code, width>(block, lane);
    }
}
