// The activation quantiser: the fast kernel gives the generic one's bytes, and a block holds what its fields promise.

#include "testing.h"

static const struct activation_type * activation_types[] = { &type_q8_eoq, &type_q8_eoq_64 };

static const char * const kinds[] = { "normal", "zero", "constant", "one outlier", "subnormal", "huge", "mixed" };

enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static float value(int kind, int i, uint64_t * random) {
    switch (kind) {
        case 1:
            return 0.0f;
        case 2:
            return -0.75f;
        case 3:
            return i % 64 == 17 ? 1000.0f : random_normal(random);
        case 4:
            return random_normal(random) * 0x1p-130f;
        case 5:
            return random_normal(random) * 0x1p100f;
        case 6:
            return ldexpf(random_normal(random), random_int(random, -30, 30));
        default:
            return random_normal(random);
    }
}

static void check_block(const struct activation_type * t, const uint8_t * block, const char * kind) {
    float   d;
    int32_t s;
    memcpy(&d, block, sizeof(d));
    memcpy(&s, block + sizeof(d), sizeof(s));
    const int8_t * qs   = (const int8_t *) block + sizeof(d) + sizeof(s);
    int            sum  = 0;
    int            amax = 0;
    for (int i = 0; i < t->width; ++i) {
        CHECK(qs[i] >= -127, "%s, %s: value -128", t->name, kind);
        sum += qs[i];
        amax = abs(qs[i]) > amax ? abs(qs[i]) : amax;
    }
    CHECK(s == sum, "%s, %s: s is %d, the sum of the values %d", t->name, kind, s, sum);
    CHECK(isfinite(d) && d >= 0, "%s, %s: scale %a", t->name, kind, (double) d);
    // either nothing, or the largest rotated value is exactly 127 scales
    CHECK(d == 0 ? amax == 0 : amax == 127, "%s, %s: scale %a, largest value %d", t->name, kind, (double) d, amax);
}

static void check_row(const struct activation_type * t, int n_blocks, int kind, uint64_t * random) {
    const int    n       = n_blocks * t->width;
    const size_t size    = n_blocks * t->block_bytes;
    float *      x       = exact_buffer(n * sizeof(float));
    uint8_t *    fast    = exact_buffer(size);
    uint8_t *    generic = exact_buffer(size);
    for (int i = 0; i < n; ++i) {
        x[i] = value(kind, i, random);
    }
    t->quantize(x, fast, n);
    t->quantize_generic(x, generic, n);
    CHECK(memcmp(fast, generic, size) == 0, "%s, %s, %d blocks: fast and generic bytes differ", t->name, kinds[kind],
          n_blocks);
    for (int b = 0; b < n_blocks; ++b) {
        check_block(t, fast + b * t->block_bytes, kinds[kind]);
    }
    free(x);
    free(fast);
    free(generic);
}

// a weight row of one level at one place, dotted with quantised activations, is that activation: rotation is one and
// the same in weights and activations
static void check_rotation(uint64_t * random) {
    for (int i = 0; i < N_WEIGHT_TYPES; ++i) {
        const struct weight_type * t           = &weight_types[i];
        float *                    x           = exact_buffer(t->width * sizeof(float));
        float *                    weights     = exact_buffer(t->width * sizeof(float));
        uint8_t *                  block       = exact_buffer(t->block_bytes);
        uint8_t *                  activations = exact_buffer(t->activation->block_bytes);
        double                     exact = 0, magnitude = 0;
        float                      dot = NAN;
        random_bytes(random, block, t->block_bytes);
        set_block_scale(block, SCALE_ONE);
        t->dequantize(block, weights, t->width);
        for (int j = 0; j < t->width; ++j) {
            x[j] = random_normal(random);
            exact += (double) weights[j] * x[j];
            magnitude += (double) weights[j] * weights[j];
        }
        t->activation->quantize(x, activations, t->width);
        t->vec_dot(t->width, &dot, 0, block, 0, activations, 0, 1);
        float d;
        memcpy(&d, activations, sizeof(d));
        // Each of the rotated values is off by at most d/2, and the levels weigh it: by Cauchy and Schwarz the error is
        // at most sqrt(width) d/2 |levels| / 4096, and |weights| = sqrt(width) |levels| / 4096. 1 % for float32 sums.
        const double bound = 1.01 * 0.5 * (double) d * sqrt(magnitude);
        CHECK(fabs(exact - (double) dot) <= bound, "%s: %f in place of %f, allowed %f", t->name, (double) dot, exact,
              bound);
        free(x);
        free(weights);
        free(block);
        free(activations);
    }
}

int main(void) {
    uint64_t random = 3;
    for (size_t i = 0; i < sizeof(activation_types) / sizeof(activation_types[0]); ++i) {
        for (int kind = 0; kind < N_KINDS; ++kind) {
            for (int n_blocks = 1; n_blocks <= 9; ++n_blocks) {
                for (int round = 0; round < 20; ++round) {
                    check_row(activation_types[i], n_blocks, kind, &random);
                }
            }
        }
    }
    for (int round = 0; round < 50; ++round) {
        check_rotation(&random);
    }
    return failures != 0;
}
