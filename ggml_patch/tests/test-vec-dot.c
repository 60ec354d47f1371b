// Dot products have the right integer sums, in the fast and in the generic kernels. With scales that are powers of two
// and sums below 2^24 every float on the way is exact, so the results must be equal, in whatever order they are added.

#include "testing.h"

enum { MAX_BLOCKS = 8 };  // 8 * 128 * 127 * 127 < 2^24

// Levels of a block from its dequantised weights at scale 1, by the definition of the transform: the weights are
// sign[j] * sum_i (-1)^|i & j| level[i] / 4096, and the transform is its own inverse but for the factor `width`.
static void levels_of(const struct weight_type * t, const uint8_t * block, int * levels) {
    float     weights[128];
    uint8_t * ones = exact_copy(block, t->block_bytes);
    set_block_scale(ones, SCALE_ONE);
    t->dequantize(ones, weights, t->width);
    free(ones);
    for (int i = 0; i < t->width; ++i) {
        int sum = 0;
        for (int j = 0; j < t->width; ++j) {
            const int sign   = (eoq_sign_words[j / 32] >> (j % 32)) & 1;
            const int parity = __builtin_popcount((unsigned) (i & j)) & 1;
            const int weight = (int) (weights[j] * 4096.0f);
            sum += sign ^ parity ? -weight : weight;
        }
        CHECK(sum % t->width == 0, "%s: %d is no multiple of the width", t->name, sum);
        levels[i] = sum / t->width;
    }
}

// an activation block with these values and scale; they are at `qs` behind a float scale and an int32 sum
static void set_activation(uint8_t * block, float d, const int8_t * qs, int width) {
    int32_t sum = 0;
    for (int i = 0; i < width; ++i) {
        sum += qs[i];
    }
    memcpy(block, &d, sizeof(d));
    memcpy(block + sizeof(d), &sum, sizeof(sum));
    memcpy(block + sizeof(d) + sizeof(sum), qs, (size_t) width);
}

enum pattern { RANDOM_VALUES, ALL_HIGH, ALL_LOW, WITH_LEVELS, AGAINST_LEVELS, PATTERNS };

static int8_t activation_value(enum pattern pattern, int level, uint64_t * random) {
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

// codes of all bits zero (lowest level), of all bits one (highest level), or random
static void fill_codes(uint8_t * block, const struct weight_type * t, int kind, uint64_t * random) {
    memset(block, kind == 1 ? 0x00 : 0xFF, t->block_bytes);
    if (kind == 0) {
        random_bytes(random, block, t->block_bytes);
    }
    set_block_scale(block, SCALE_ONE);
}

static void check_row(const struct weight_type * t, int n_blocks, int codes, enum pattern pattern, uint64_t * random) {
    const size_t a_bytes     = t->activation->block_bytes;
    uint8_t *    blocks      = exact_buffer(n_blocks * t->block_bytes);
    uint8_t *    activations = exact_buffer(n_blocks * a_bytes);
    int64_t      expected    = 0;
    for (int b = 0; b < n_blocks; ++b) {
        int    levels[128];
        int8_t qs[128];
        fill_codes(blocks + b * t->block_bytes, t, codes, random);
        levels_of(t, blocks + b * t->block_bytes, levels);
        for (int i = 0; i < t->width; ++i) {
            qs[i] = activation_value(pattern, levels[i], random);
            expected += levels[i] * qs[i];
        }
        set_activation(activations + b * a_bytes, 1.0f, qs, t->width);
    }
    const int n    = n_blocks * t->width;
    float     fast = NAN, generic = NAN;
    t->vec_dot(n, &fast, 0, blocks, 0, activations, 0, 1);
    t->vec_dot_generic(n, &generic, 0, blocks, 0, activations, 0, 1);
    CHECK(fast == (float) expected / 4096, "%s, %d blocks, pattern %d: sum %f in place of %" PRId64, t->name, n_blocks,
          pattern, (double) fast * 4096, expected);
    CHECK(generic == (float) expected / 4096, "%s, %d blocks, pattern %d: generic sum %f in place of %" PRId64, t->name,
          n_blocks, pattern, (double) generic * 4096, expected);
    free(blocks);
    free(activations);
}

// every block is multiplied by its own two scales: small values, so that sums of differently scaled blocks stay exact
static void check_scales(const struct weight_type * t, uint64_t * random) {
    const size_t a_bytes     = t->activation->block_bytes;
    uint8_t *    blocks      = exact_buffer(4 * t->block_bytes);
    uint8_t *    activations = exact_buffer(4 * a_bytes);
    double       expected    = 0;
    for (int b = 0; b < 4; ++b) {
        int       levels[128];
        int8_t    qs[128];
        int       sum            = 0;
        const int weight_log2    = random_int(random, -1, 2);
        const int activation_log = random_int(random, 0, 1);
        random_bytes(random, blocks + b * t->block_bytes, t->block_bytes);
        set_block_scale(blocks + b * t->block_bytes, (uint16_t) (SCALE_ONE + weight_log2 * 1024));
        levels_of(t, blocks + b * t->block_bytes, levels);
        for (int i = 0; i < t->width; ++i) {
            qs[i] = (int8_t) random_int(random, -7, 7);
            sum += levels[i] * qs[i];
        }
        set_activation(activations + b * a_bytes, ldexpf(1.0f, activation_log), qs, t->width);
        expected += ldexp(sum, weight_log2 + activation_log - 12);
    }
    float fast = NAN, generic = NAN;
    t->vec_dot(4 * t->width, &fast, 0, blocks, 0, activations, 0, 1);
    t->vec_dot_generic(4 * t->width, &generic, 0, blocks, 0, activations, 0, 1);
    CHECK((double) fast == expected, "%s: %a in place of %a", t->name, (double) fast, expected);
    CHECK((double) generic == expected, "%s: generic %a in place of %a", t->name, (double) generic, expected);
    free(blocks);
    free(activations);
}

int main(void) {
    uint64_t random = 2;
    for (int i = 0; i < N_WEIGHT_TYPES; ++i) {
        for (int n_blocks = 1; n_blocks <= MAX_BLOCKS; ++n_blocks) {
            for (int codes = 0; codes < 3; ++codes) {
                for (int pattern = 0; pattern < PATTERNS; ++pattern) {
                    check_row(&weight_types[i], n_blocks, codes, (enum pattern) pattern, &random);
                }
            }
        }
        for (int round = 0; round < 50; ++round) {
            check_scales(&weight_types[i], &random);
        }
    }
    return failures != 0;
}
