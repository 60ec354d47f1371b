// Whatever the bytes: nothing is read or written out of bounds (run under the sanitizers), the weights are exact
// multiples of the scale, and the quantisers take any float.

#include "testing.h"

static const int block_counts[] = { 1, 2, 3, 4, 5, 8, 17 };

static void check_dequantize(const struct weight_type * t, const uint8_t * blocks, int n_blocks) {
    const int n       = n_blocks * t->width;
    float *   weights = exact_buffer(n * sizeof(float));
    float *   units   = exact_buffer(n * sizeof(float));
    uint8_t * ones    = exact_copy(blocks, n_blocks * t->block_bytes);
    for (int b = 0; b < n_blocks; ++b) {
        set_block_scale(ones + b * t->block_bytes, SCALE_ONE);
    }
    t->dequantize(blocks, weights, n);
    t->dequantize(ones, units, n);

    float * again = exact_buffer(n * sizeof(float));
    t->dequantize_cpu(blocks, again, n);
    CHECK(memcmp(again, weights, n * sizeof(float)) == 0, "%s: the CPU's weights are not the portable ones", t->name);
    free(again);

    for (int b = 0; b < n_blocks; ++b) {
        const float d = half_to_float(block_scale(blocks + b * t->block_bytes));
        for (int i = b * t->width; i < (b + 1) * t->width; ++i) {
            const float integer = units[i] * 4096.0f;
            CHECK(integer == rintf(integer) && fabsf(integer) <= t->width * 127,
                  "%s: %a is no sum of %d levels over 4096", t->name, (double) units[i], t->width);
            if (isfinite(d)) {
                const float expected = integer * (d * 0x1p-12f);
                CHECK(weights[i] == expected, "%s: %a in place of %a", t->name, (double) weights[i], (double) expected);
            }
        }
    }
    free(weights);
    free(units);
    free(ones);
}

static void check_vec_dot(const struct weight_type * t, const uint8_t * blocks, int n_blocks, uint64_t * random) {
    const size_t size        = n_blocks * t->activation->block_bytes;
    uint8_t *    activations = exact_buffer(size);
    float *      result      = exact_buffer(sizeof(float));
    random_bytes(random, activations, size);
    t->vec_dot(n_blocks * t->width, result, 0, blocks, 0, activations, 0, 1);
    t->vec_dot_generic(n_blocks * t->width, result, 0, blocks, 0, activations, 0, 1);
    free(activations);
    free(result);
}

// floats of any bit pattern, NaN and infinity included
static void check_quantizers(const struct weight_type * t, int n_blocks, uint64_t * random) {
    const int n           = n_blocks * t->width;
    float *   x           = exact_buffer(n * sizeof(float));
    uint8_t * blocks      = exact_buffer(n_blocks * t->block_bytes);
    uint8_t * activations = exact_buffer(n_blocks * t->activation->block_bytes);
    random_bytes(random, x, n * sizeof(float));
    t->quantize_ref(x, blocks, n);
    t->from_float(x, blocks, n);
    t->quantize(x, blocks, 1, n, NULL);
    t->activation->quantize(x, activations, n);
    t->activation->quantize_generic(x, activations, n);
    free(x);
    free(blocks);
    free(activations);
}

int main(void) {
    uint64_t random = 1;
    for (int i = 0; i < N_WEIGHT_TYPES; ++i) {
        const struct weight_type * t = &weight_types[i];
        for (size_t c = 0; c < sizeof(block_counts) / sizeof(block_counts[0]); ++c) {
            for (int round = 0; round < 20; ++round) {
                const size_t size   = block_counts[c] * t->block_bytes;
                uint8_t *    blocks = exact_buffer(size);
                random_bytes(&random, blocks, size);
                check_dequantize(t, blocks, block_counts[c]);
                check_vec_dot(t, blocks, block_counts[c], &random);
                // a trellis takes its time
                if (!t->is_trellis || (round == 0 && block_counts[c] <= 3)) {
                    check_quantizers(t, block_counts[c], &random);
                }
                free(blocks);
            }
        }
    }
    return failures != 0;
}
