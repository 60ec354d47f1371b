// Dot products have the right integer sums, in the fast and in the generic kernels. With scales that are powers of two
// and sums below 2^24 every float on the way is exact, so the results must be equal, in whatever order they are added.

#include "blocks.h"

enum { MAX_WEIGHTS = 1024 };  // 1024 * 127 * 127 < 2^24

static void check_row(const struct weight_type * t, int n_blocks, int codes, enum pattern pattern, uint64_t * random) {
    const size_t a_bytes     = t->activation->block_bytes;
    uint8_t *    blocks      = exact_buffer(n_blocks * t->block_bytes);
    uint8_t *    activations = exact_buffer(n_blocks * a_bytes);
    int64_t      expected    = 0;
    for (int b = 0; b < n_blocks; ++b) {
        int    levels[QK_EOQ_MAX];
        int8_t qs[QK_EOQ_MAX];
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
        int       levels[QK_EOQ_MAX];
        int8_t    qs[QK_EOQ_MAX];
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
        for (int n_blocks = 1; n_blocks * weight_types[i].width <= MAX_WEIGHTS; ++n_blocks) {
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
