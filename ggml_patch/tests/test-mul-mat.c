// Products of rows and columns have the right integer sums, for every way in which rows and columns fall into tiles. With
// scales that are powers of two and sums below 2^24 every float on the way is exact, so the results must be equal, in
// whatever order they are added.

#include "blocks.h"

enum { ROW_GAP = 6, UNTOUCHED = 12345 };

struct problem {
    const struct weight_type * t;
    int                        n_blocks;
    int                        n_rows;
    int                        n_columns;
    int                        codes;    // of fill_codes
    enum pattern               pattern;
    int                        largest;  // activations of RANDOM_VALUES are in -largest..largest
};

// scales: a quarter to four for rows, one or a half for columns, the same in all of a row's or column's blocks
static int row_scale_log2(int row) {
    return row % 5 - 2;
}

static int column_scale_log2(int column) {
    return -(column % 2);
}

static void check_problem(const struct problem * p, uint64_t * random) {
    const struct weight_type * t         = p->t;
    const int                  k         = p->n_blocks * t->width;
    const size_t               a_bytes   = t->activation->block_bytes;
    const size_t               row_bytes = p->n_blocks * t->block_bytes + ROW_GAP;
    uint8_t *                  weights   = exact_buffer(p->n_rows * row_bytes - ROW_GAP);
    int *                      levels    = exact_buffer(sizeof(int) * p->n_rows * k);
    const void **              columns   = exact_buffer(sizeof(void *) * p->n_columns);
    float **                   out       = exact_buffer(sizeof(float *) * p->n_columns);
    int8_t *                   qs        = exact_buffer((size_t) p->n_columns * k);

    for (int r = 0; r < p->n_rows; ++r) {
        for (int b = 0; b < p->n_blocks; ++b) {
            uint8_t * block = weights + r * row_bytes + b * t->block_bytes;
            fill_codes(block, t, p->codes, random);
            levels_of(t, block, levels + r * k + b * t->width);
            set_block_scale(block, (uint16_t) (SCALE_ONE + row_scale_log2(r) * 1024));
        }
    }
    for (int c = 0; c < p->n_columns; ++c) {
        uint8_t * column = exact_buffer(p->n_blocks * a_bytes);
        for (int i = 0; i < k; ++i) {
            qs[c * k + i] = p->pattern == RANDOM_VALUES ?
                                (int8_t) random_int(random, -p->largest, p->largest) :
                                activation_value(p->pattern, levels[c % p->n_rows * k + i], random);
        }
        for (int b = 0; b < p->n_blocks; ++b) {
            set_activation(column + b * a_bytes, ldexpf(1.0f, column_scale_log2(c)), qs + c * k + b * t->width,
                           t->width);
        }
        columns[c] = column;
        out[c]     = exact_buffer(sizeof(float) * p->n_rows);
    }

    for (int fast = 0; fast < 2; ++fast) {
        for (int c = 0; c < p->n_columns; ++c) {
            for (int r = 0; r < p->n_rows; ++r) {
                out[c][r] = UNTOUCHED;
            }
        }
        (fast ? t->mul_mat : t->mul_mat_generic)(k, weights, row_bytes, p->n_rows, columns, out, p->n_columns);
        for (int c = 0; c < p->n_columns; ++c) {
            for (int r = 0; r < p->n_rows; ++r) {
                int64_t sum = 0;
                for (int i = 0; i < k; ++i) {
                    sum += levels[r * k + i] * qs[c * k + i];
                }
                const double expected = ldexp((double) sum, row_scale_log2(r) + column_scale_log2(c) - 12);
                CHECK((double) out[c][r] == expected, "%s%s, %d x %d by %d, row %d, column %d, pattern %d: %a, not %a",
                      t->name, fast ? "" : " generic", p->n_rows, p->n_blocks, p->n_columns, r, c, p->pattern,
                      (double) out[c][r], expected);
            }
        }
    }

    for (int c = 0; c < p->n_columns; ++c) {
        free((void *) columns[c]);
        free(out[c]);
    }
    free(weights);
    free(levels);
    free(columns);
    free(out);
    free(qs);
}

int main(void) {
    static const int rows[]    = { 1, 2, 4, 5, 15, 16, 17, 35 };
    static const int columns[] = { 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 18, 23, 31 };
    uint64_t         random    = 4;
    for (int i = 0; i < N_WEIGHT_TYPES; ++i) {
        const struct weight_type * t = &weight_types[i];
        for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); ++r) {
            for (size_t c = 0; c < sizeof(columns) / sizeof(columns[0]); ++c) {
                const struct problem p = { t, random_int(&random, 1, 3), rows[r], columns[c], 0, RANDOM_VALUES, 127 };
                check_problem(&p, &random);
            }
        }
        for (int codes = 0; codes < 3; ++codes) {
            for (int pattern = 0; pattern < PATTERNS; ++pattern) {
                for (int n = 1; n <= 12; ++n) {
                    const struct problem p = { t, 2, 17, n, codes, (enum pattern) pattern, 127 };
                    check_problem(&p, &random);
                }
            }
        }
        // more columns than any kernel takes at a time, and a row longer than any model's
        const struct problem wide = { t, 1, 3, 520, 0, RANDOM_VALUES, 127 };
        check_problem(&wide, &random);
        const struct problem deep = { t, 32768 / t->width, 2, 5, 0, RANDOM_VALUES, 3 };
        check_problem(&deep, &random);
    }
    return failures != 0;
}
