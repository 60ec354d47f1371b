#pragma once

// Blocks of weights and activations for tests of products: what they hold is known exactly.

#include "testing.h"

// Levels of a block from its dequantised weights at scale 1, by the definition of the transform: the weights are
// sign[j] * sum_i (-1)^|i & j| level[i] / 4096, and the transform is its own inverse but for the factor `width`.
static inline void levels_of(const struct weight_type * t, const uint8_t * block, int * levels) {
    float     weights[QK_EOQ_MAX];
    uint8_t * ones = exact_copy(block, t->block_bytes);
    set_block_scale(ones, SCALE_ONE);
    t->dequantize(ones, weights, t->width);
    free(ones);
    int signed_weights[QK_EOQ_MAX];
    for (int j = 0; j < t->width; ++j) {
        const int weight  = (int) (weights[j] * 4096.0f);
        signed_weights[j] = (eoq_sign_words[j / 32] >> (j % 32)) & 1 ? -weight : weight;
    }
    for (int i = 0; i < t->width; ++i) {
        int sum = 0;
        for (int j = 0; j < t->width; ++j) {
            const int parity = 0x6996 >> (((i & j) ^ (i & j) >> 4) & 15) & 1;
            sum += parity ? -signed_weights[j] : signed_weights[j];
        }
        CHECK(sum % t->width == 0, "%s: %d is no multiple of the width", t->name, sum);
        levels[i] = sum / t->width;
    }
}

// an activation block with these values and scale; they are at `qs` behind a float scale and an int32 sum
static inline void set_activation(uint8_t * block, float d, const int8_t * qs, int width) {
    int32_t sum = 0;
    for (int i = 0; i < width; ++i) {
        sum += qs[i];
    }
    memcpy(block, &d, sizeof(d));
    memcpy(block + sizeof(d), &sum, sizeof(sum));
    memcpy(block + sizeof(d) + sizeof(sum), qs, (size_t) width);
}

enum pattern { RANDOM_VALUES, ALL_HIGH, ALL_LOW, WITH_LEVELS, AGAINST_LEVELS, PATTERNS };

static inline int8_t activation_value(enum pattern pattern, int level, uint64_t * random) {
    switch (pattern) {
        case ALL_HIGH:
            return 127;
        case ALL_LOW:
            return -127;
        case WITH_LEVELS:
            return level > 0 ? 127 : -127;
        case AGAINST_LEVELS:
            return level > 0 ? -127 : 127;
        default:
            return (int8_t) random_int(random, -127, 127);
    }
}

// codes of all bits zero, of all bits one (the lowest and the highest level of scalar types), or random
static inline void fill_codes(uint8_t * block, const struct weight_type * t, int kind, uint64_t * random) {
    memset(block, kind == 1 ? 0x00 : 0xFF, t->block_bytes);
    if (kind == 0) {
        random_bytes(random, block, t->block_bytes);
    }
    set_block_scale(block, SCALE_ONE);
}
