// libFuzzer: every reader of blocks of each type, given any bytes. Nothing is read or written out of bounds, all readers
// of a block agree on its weights, and the same bytes give the same result.
//
// input: type, operation, blocks in a row, rows, columns (a byte each), then the bytes of weights and activations, which
// repeat where they are too few

#include "../testing.h"

enum { N_ARGUMENTS = 5, MOST_BLOCKS = 5, MOST_ROWS = EOQ_TILE_ROWS + 2, MOST_COLUMNS = EOQ_MANY_FROM + 2 };

// of rows longer than a block, so that an input takes a millisecond at most
enum { MOST_PRODUCTS = 32 };

static const uint8_t * fuzz_data;
static size_t          fuzz_size;
static size_t          fuzz_next;

static void * fuzz_bytes(size_t size) {
    uint8_t * bytes = exact_buffer(size);
    for (size_t i = 0; i < size; ++i) {
        bytes[i] = fuzz_size ? fuzz_data[fuzz_next++ % fuzz_size] : 0;
    }
    return bytes;
}

// a NaN's bits are not said: which of two operands it comes from is the compiler's choice
static void same_floats(const struct weight_type * t, const char * what, const float * a, const float * b, int n) {
    for (int i = 0; i < n; ++i) {
        const bool same = memcmp(&a[i], &b[i], sizeof(float)) == 0 || (isnan(a[i]) && isnan(b[i]));
        CHECK(same, "%s: %s %d is %a and %a", t->name, what, i, (double) a[i], (double) b[i]);
    }
}

static void read_weights(const struct weight_type * t, int n_blocks) {
    const int n      = n_blocks * t->width;
    uint8_t * blocks = fuzz_bytes(n_blocks * t->block_bytes);
    float *   a      = exact_buffer(n * sizeof(float));
    float *   b      = exact_buffer(n * sizeof(float));
    t->dequantize(blocks, a, n);
    t->dequantize(blocks, b, n);
    same_floats(t, "weight, read twice,", a, b, n);
    t->dequantize_cpu(blocks, b, n);
    same_floats(t, "weight, read by the CPU's code,", a, b, n);
    free(blocks);
    free(a);
    free(b);
}

static void multiply_row(const struct weight_type * t, int n_blocks) {
    const int        n           = n_blocks * t->width;
    uint8_t *        blocks      = fuzz_bytes(n_blocks * t->block_bytes);
    uint8_t *        activations = fuzz_bytes(n_blocks * t->activation->block_bytes);
    const vec_dot_fn functions[] = { t->vec_dot, t->vec_dot_generic };
    for (int f = 0; f < 2; ++f) {
        float * results = exact_buffer(2 * sizeof(float));
        for (int i = 0; i < 2; ++i) {
            functions[f](n, results + i, 0, blocks, 0, activations, 0, 1);
        }
        same_floats(t, f ? "generic product, repeated," : "product, repeated,", results, results + 1, 1);
        free(results);
    }
    free(blocks);
    free(activations);
}

static void multiply_rows(const struct weight_type * t, int n_blocks, int n_rows, int n_columns) {
    const size_t row_bytes = n_blocks * t->block_bytes;
    uint8_t *    weights   = fuzz_bytes(n_rows * row_bytes);
    const void * columns[MOST_COLUMNS];
    float *      out[2][MOST_COLUMNS];
    for (int c = 0; c < n_columns; ++c) {
        columns[c] = fuzz_bytes(n_blocks * t->activation->block_bytes);
        for (int i = 0; i < 2; ++i) {
            out[i][c] = exact_buffer(n_rows * sizeof(float));
        }
    }
    for (int i = 0; i < 2; ++i) {
        t->mul_mat(n_blocks * t->width, weights, row_bytes, n_rows, columns, out[i], n_columns);
    }
    for (int c = 0; c < n_columns; ++c) {
        same_floats(t, "product, repeated,", out[0][c], out[1][c], n_rows);
    }
    t->mul_mat_generic(n_blocks * t->width, weights, row_bytes, n_rows, columns, out[0], n_columns);
    for (int c = 0; c < n_columns; ++c) {
        free((void *) columns[c]);
        free(out[0][c]);
        free(out[1][c]);
    }
    free(weights);
}

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    if (size < N_ARGUMENTS) {
        return 0;
    }
    const struct weight_type * t         = &weight_types[data[0] % N_WEIGHT_TYPES];
    const int                  n_blocks  = 1 + data[2] % MOST_BLOCKS;
    const int                  n_rows    = 1 + data[3] % MOST_ROWS;
    const int                  n_columns = 1 + data[4] % MOST_COLUMNS;
    fuzz_data                            = data + N_ARGUMENTS;
    fuzz_size                            = size - N_ARGUMENTS;
    fuzz_next                            = 0;
    switch (data[1] % 3) {
        case 0:
            read_weights(t, n_blocks);
            break;
        case 1:
            multiply_row(t, n_blocks);
            break;
        default:
            multiply_rows(t, n_rows * n_columns > MOST_PRODUCTS ? 1 : n_blocks, n_rows, n_columns);
            break;
    }
    if (failures) {
        abort();
    }
    return 0;
}
