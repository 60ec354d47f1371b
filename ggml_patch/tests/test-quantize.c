// The weight quantiser: rows are independent and exactly sized, its error is the codebook's, quantising what was
// dequantised changes nothing (but for a trellis), extreme blocks give finite weights, and what is no number is marked.

#include "testing.h"

static const char * const kinds[] = { "normal",    "zero",      "constant", "alternating", "one outlier",
                                      "one value", "subnormal", "huge",     "mixed",       "ramp" };

enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static float value(int kind, int i, uint64_t * random) {
    switch (kind) {
        case 1:
            return i % 2 ? -0.0f : 0.0f;
        case 2:
            return 0.031f;
        case 3:
            return i % 2 ? -0.5f : 0.5f;
        case 4:
            return i % 64 == 5 ? 300.0f : 0.02f * random_normal(random);
        case 5:
            return i % 64 == 63 ? -1.0f : 0.0f;
        case 6:
            return ldexpf(random_normal(random), -24);
        case 7:
            return ldexpf(random_normal(random), 40);
        case 8:
            return ldexpf(random_normal(random), random_int(random, -40, 20));
        case 9:
            return (float) (i % 64) / 64.0f;
        default:
            return 0.02f * random_normal(random);
    }
}

static void check_rows(const struct weight_type * t, int n_rows, int n_blocks, int kind, uint64_t * random) {
    const int    n         = n_blocks * t->width;
    const size_t row_bytes = n_blocks * t->block_bytes;
    float *      x         = exact_buffer((size_t) n_rows * n * sizeof(float));
    float *      y         = exact_buffer((size_t) n_rows * n * sizeof(float));
    uint8_t *    together  = exact_buffer(n_rows * row_bytes);
    uint8_t *    alone     = exact_buffer(row_bytes);
    uint8_t *    again     = exact_buffer(n_rows * row_bytes);
    for (int i = 0; i < n_rows * n; ++i) {
        x[i] = value(kind, i, random);
    }

    const size_t size = t->quantize(x, together, n_rows, n, NULL);
    CHECK(size == n_rows * row_bytes, "%s: quantised %zu bytes, expected %zu", t->name, size, n_rows * row_bytes);
    for (int r = 0; r < n_rows; ++r) {
        t->quantize_ref(x + r * n, alone, n);
        CHECK(memcmp(alone, together + r * row_bytes, row_bytes) == 0, "%s, %s: row %d differs alone", t->name,
              kinds[kind], r);
        t->from_float(x + r * n, alone, n);
        CHECK(memcmp(alone, together + r * row_bytes, row_bytes) == 0, "%s, %s: from_float of row %d differs", t->name,
              kinds[kind], r);
    }

    t->dequantize(together, y, (int64_t) n_rows * n);
    for (int i = 0; i < n_rows * n; ++i) {
        CHECK(isfinite(y[i]), "%s, %s: weight %d is %f", t->name, kinds[kind], i, (double) y[i]);
        CHECK(kind != 1 || y[i] == 0, "%s: zero became %a", t->name, (double) y[i]);
    }
    t->quantize(y, again, n_rows, n, NULL);
    // a trellis finds the best codes of a scale, not the scale at which these codes would be the best
    CHECK(t->is_trellis || memcmp(again, together, n_rows * row_bytes) == 0,
          "%s, %s: quantised again, %d blocks change", t->name, kinds[kind], n_rows * n_blocks);
    free(x);
    free(y);
    free(together);
    free(alone);
    free(again);
}

// A weight that is no number cannot be stored: the scale says so, and ggml_validate_row_data refuses the row. The other
// blocks are as ever.
static void check_not_finite(const struct weight_type * t, float bad, uint64_t * random) {
    const int n      = 3 * t->width;
    float *   x      = exact_buffer(n * sizeof(float));
    uint8_t * blocks = exact_buffer(3 * t->block_bytes);
    uint8_t * good   = exact_buffer(3 * t->block_bytes);
    for (int i = 0; i < n; ++i) {
        x[i] = random_normal(random);
    }
    t->quantize_ref(x, good, n);
    x[t->width + random_int(random, 0, t->width - 1)] = bad;
    t->quantize_ref(x, blocks, n);
    CHECK(!isfinite(half_to_float(block_scale(blocks + t->block_bytes))), "%s: %f was quantised", t->name,
          (double) bad);
    CHECK(memcmp(blocks, good, t->block_bytes) == 0, "%s: the block before %f changed", t->name, (double) bad);
    CHECK(memcmp(blocks + 2 * t->block_bytes, good + 2 * t->block_bytes, t->block_bytes) == 0,
          "%s: the block after %f changed", t->name, (double) bad);
    free(x);
    free(blocks);
    free(good);
}

// mean squared errors on N(0, 1) of the optimal real-valued quantisers, and what the integer tables may lose
static const double optimum[]   = { 0.117482, 0.034548, 0.009501, 0.002505, 0.000644 };
static const double allowance[] = { 1.001, 1.001, 1.001, 1.007, 1.03 };

// what a trellis must leave of them at most; at least Shannon's bound of all bits of a block, its scale's included
static const double of_trellis = 0.72;

// a trellis takes its time, most of all in an emulator or under a sanitizer: it has fewer rows and samples
enum { ERROR_SAMPLES = 1 << 17, TRELLIS_ERROR_SAMPLES = 1 << 13 };

static void check_error(const struct weight_type * t, uint64_t * random) {
    const int n      = t->is_trellis ? TRELLIS_ERROR_SAMPLES : ERROR_SAMPLES;
    float *   x      = exact_buffer(n * sizeof(float));
    float *   y      = exact_buffer(n * sizeof(float));
    uint8_t * blocks = exact_buffer(n / t->width * t->block_bytes);
    double    signal = 0, error = 0;
    for (int i = 0; i < n; ++i) {
        x[i] = random_normal(random);
    }
    t->quantize(x, blocks, 1, n, NULL);
    t->dequantize(blocks, y, n);
    for (int i = 0; i < n; ++i) {
        signal += (double) x[i] * x[i];
        error += ((double) x[i] - y[i]) * ((double) x[i] - y[i]);
    }
    const double scalar  = optimum[t->bits - 2] * allowance[t->bits - 2];
    const double ceiling = t->is_trellis ? of_trellis * scalar : scalar;
    const double floor   = t->is_trellis ? exp2(-2.0 * 8.0 * (double) t->block_bytes / t->width) : 0.85 * scalar;
    CHECK(error / signal <= ceiling, "%s: relative error %f, at most %f expected", t->name, error / signal, ceiling);
    CHECK(error / signal >= floor, "%s: relative error %f is too good to be true", t->name, error / signal);
    free(x);
    free(y);
    free(blocks);
}

int main(void) {
    uint64_t random = 4;
    for (int i = 0; i < N_WEIGHT_TYPES; ++i) {
        for (int kind = 0; kind < N_KINDS; ++kind) {
            const bool few         = weight_types[i].is_trellis;
            const int  most_rows   = !few ? 5 : kind == 0 ? 3 : 1;
            const int  most_blocks = !few ? 9 : kind == 0 ? 5 : 1;
            for (int n_rows = 1; n_rows <= most_rows; n_rows += 2) {
                for (int n_blocks = 1; n_blocks <= most_blocks; n_blocks += 4) {
                    check_rows(&weight_types[i], n_rows, n_blocks, kind, &random);
                }
            }
        }
        check_error(&weight_types[i], &random);
        check_not_finite(&weight_types[i], NAN, &random);
        check_not_finite(&weight_types[i], INFINITY, &random);
        check_not_finite(&weight_types[i], -INFINITY, &random);
    }
    return failures != 0;
}
