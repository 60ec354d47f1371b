// One measurement of one kernel, in one thread: kernels KERNEL TYPE ROWS K COLUMNS SLICES MILLISECONDS
//
//   mul_mat TYPE     ROWS rows of K weights by COLUMNS columns of activations
//   dequantize TYPE  ROWS rows of K weights to floats
//   quantize TYPE    ROWS rows of K floats to an activation type
//
// Each call works on the next of SLICES equal slices of memory, so the data comes from the cache if one slice fits it
// and is the only one, and from memory if all slices together are much larger than the caches. Prints a JSON object.
// With MILLISECONDS = 0 the instructions of one call are counted instead (Linux).

#define _DEFAULT_SOURCE

#include "eoq-cpu.h"
#include "eoq-mul-mat.h"
#include "read_sum.h"
#include "single_step.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct weight_type {
    const char *   name;
    int            width;
    size_t         block_bytes;
    size_t         activation_bytes;  // of a block
    eoq_mul_mat_fn mul_mat;
    eoq_mul_mat_fn mul_mat_generic;
    void (*dequantize)(const void *, float *, int64_t);
    void (*quantize)(const float *, void *, int64_t);  // of the activations
};

struct activation_type {
    const char * name;
    int          width;
    size_t       block_bytes;
    void (*quantize)(const float *, void *, int64_t);
    void (*quantize_generic)(const float *, void *, int64_t);
};

// clang-format off
#define WEIGHT_ENTRY(T, t, bits, width, A, a)                                                              \
    { #t, width, sizeof(block_##t), sizeof(block_##a), ggml_eoq_mul_mat_##t, ggml_eoq_mul_mat_##t##_generic, \
      ggml_eoq_dequantize_row_##t, quantize_row_##a },
#define ACTIVATION_ENTRY(T, t, width) \
    { #t, width, sizeof(block_##t), quantize_row_##t, quantize_row_##t##_generic },
// clang-format on

static const struct weight_type     weight_types[]     = { GGML_EOQ_WEIGHT_TYPES(WEIGHT_ENTRY) };
static const struct activation_type activation_types[] = { GGML_EOQ_ACTIVATION_TYPES(ACTIVATION_ENTRY) };

enum { N_WEIGHT_TYPES = sizeof(weight_types) / sizeof(weight_types[0]) };

enum { N_ACTIVATION_TYPES = sizeof(activation_types) / sizeof(activation_types[0]) };

// what a call works on
struct job {
    const struct weight_type *     weights;      // of mul_mat and dequantize
    const struct activation_type * activations;  // of quantize
    int64_t                        rows;
    int64_t                        k;
    int64_t                        n_columns;
    size_t                         row_bytes;
    uint8_t *                      slices;
    int64_t                        n_slices;
    const void **                  columns;  // of mul_mat
    float **                       out;      // of mul_mat
    void *                         row;      // result of the others, a row at a time, as their callers ask for it
};

typedef void (*call_fn)(const struct job * job, const uint8_t * slice, int64_t rows);

static void call_mul_mat(const struct job * job, const uint8_t * slice, int64_t rows) {
    job->weights->mul_mat(job->k, slice, job->row_bytes, rows, job->columns, job->out, job->n_columns);
}

static void call_mul_mat_generic(const struct job * job, const uint8_t * slice, int64_t rows) {
    job->weights->mul_mat_generic(job->k, slice, job->row_bytes, rows, job->columns, job->out, job->n_columns);
}

static void call_dequantize(const struct job * job, const uint8_t * slice, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r) {
        job->weights->dequantize(slice + (size_t) r * job->row_bytes, (float *) job->row, job->k);
    }
}

static void call_quantize(const struct job * job, const uint8_t * slice, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r) {
        job->activations->quantize((const float *) (slice + (size_t) r * job->row_bytes), job->row, job->k);
    }
}

static void call_quantize_generic(const struct job * job, const uint8_t * slice, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r) {
        job->activations->quantize_generic((const float *) (slice + (size_t) r * job->row_bytes), job->row, job->k);
    }
}

#if defined(__linux__)
struct one_call {
    call_fn            call;
    const struct job * job;
};

static void call_once(void * argument) {
    const struct one_call * one = (const struct one_call *) argument;
    one->call(one->job, one->job->slices, one->job->rows);
}
#endif

static int print_instructions(call_fn call, const struct job * job) {
    int64_t counted = -1;
#if defined(__linux__)
    struct one_call one = { call, job };
    call_once(&one);
    counted = instructions_of(call_once, &one);
#else
    (void) call, (void) job;
#endif
    if (counted < 0) {
        fprintf(stderr, "instructions cannot be counted: this system does not let a process trace its child\n");
        return 1;
    }
    printf("{\"instructions\": %" PRId64 "}\n", counted);
    return 0;
}

static uint64_t read_total = 0;  // printed, so that reading is not optimised away

static void call_read(const struct job * job, const uint8_t * slice, int64_t rows) {
    read_total += read_sum(slice, (size_t) rows * job->row_bytes);
}

// processor time: what other processes take of the core does not count
static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static size_t slice_bytes(const struct job * job) {
    // slices start at a multiple of what the widest vectors need
    return ((size_t) job->rows * job->row_bytes + READ_STEP - 1) / READ_STEP * READ_STEP;
}

// seconds a call, of calls that together take at least `least` seconds; slice after slice
static double seconds_a_call(call_fn call, const struct job * job, int64_t rows, double least, int64_t * calls) {
    const size_t size  = slice_bytes(job);
    const double start = seconds();
    double       taken = 0;
    int64_t      batch = 1;
    int64_t      done  = 0;
    do {
        for (int64_t i = 0; i < batch; ++i) {
            call(job, job->slices + (size_t) (done++ % job->n_slices) * size, rows);
        }
        taken = seconds() - start;
        if (taken < least / 64) {
            batch *= 2;  // reading the clock takes its time, too
        }
    } while (taken < least);
    *calls = done;
    return taken / (double) done;
}

// cycles a nanosecond, from additions that each wait for the one before: one cycle each
static double clock_frequency(void) {
#if defined(__GNUC__)
    double best = 0;
    for (int attempt = 0; attempt < 5; ++attempt) {
        const int64_t n    = 1 << 18;
        uint64_t      x    = 0;
        uint64_t      step = 3;
        __asm__ volatile("" : "+r"(step));
        const double start = seconds();
        for (int64_t i = 0; i < n; ++i) {
#    define ADD    \
        x += step; \
        __asm__ volatile("" : "+r"(x));
            ADD ADD ADD ADD ADD ADD ADD ADD
#    undef ADD
        }
        const double frequency = 8e-9 * (double) n / (seconds() - start);
        best                   = frequency > best ? frequency : best;
    }
    return best;
#else
    return 0;
#endif
}

static uint32_t random_bits(void) {
    static uint32_t state = 1;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static float random_float(void) {
    return (float) random_bits() / 4294967296.0f - 0.5f;
}

static void * allocate(size_t size) {
    void * memory = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    if (memory == NULL) {
        fprintf(stderr, "cannot have %zu bytes\n", size);
        exit(1);
    }
    return memory;
}

// one slice of random content, and copies of it
static void fill_slices(struct job * job) {
    const size_t size = slice_bytes(job);
    job->slices       = (uint8_t *) allocate(size * (size_t) job->n_slices);
    if (job->weights == NULL) {
        for (size_t i = 0; i < size / sizeof(float); ++i) {
            ((float *) (void *) job->slices)[i] = random_float();
        }
    } else {
        for (size_t i = 0; i < size; ++i) {
            job->slices[i] = (uint8_t) random_bits();
        }
        for (size_t i = 0; i + 1 < size; i += job->weights->block_bytes) {
            job->slices[i]     = 0;  // scale: 1
            job->slices[i + 1] = 0x3C;
        }
    }
    for (int64_t i = 1; i < job->n_slices; ++i) {
        memcpy(job->slices + (size_t) i * size, job->slices, size);
    }
}

static void fill_columns(struct job * job) {
    const size_t column_bytes = (size_t) (job->k / job->weights->width) * job->weights->activation_bytes;
    uint8_t *    activations  = (uint8_t *) allocate(column_bytes * (size_t) job->n_columns);
    float *      values       = (float *) allocate((size_t) job->k * sizeof(float));
    job->columns              = (const void **) allocate((size_t) job->n_columns * sizeof(void *));
    job->out                  = (float **) allocate((size_t) job->n_columns * sizeof(float *));
    for (int64_t c = 0; c < job->n_columns; ++c) {
        uint8_t * column = activations + (size_t) c * column_bytes;
        for (int64_t i = 0; i < job->k; ++i) {
            values[i] = random_float();
        }
        job->weights->quantize(values, column, job->k);
        job->columns[c] = column;
        job->out[c]     = (float *) allocate((size_t) job->rows * sizeof(float));
    }
    free(values);
}

// the kernel's products against the portable ones: a fast kernel that is wrong is not worth a measurement
static bool is_right(const struct job * job, int64_t rows) {
    const size_t n        = (size_t) (rows * job->n_columns);
    float *      expected = (float *) allocate(n * sizeof(float));
    double       energy   = 0;
    double       worst    = 0;
    call_mul_mat_generic(job, job->slices, rows);
    for (size_t i = 0; i < n; ++i) {
        expected[i] = job->out[i / (size_t) rows][i % (size_t) rows];
        energy += (double) expected[i] * expected[i];
    }
    call_mul_mat(job, job->slices, rows);
    for (size_t i = 0; i < n; ++i) {
        const double error = fabs((double) job->out[i / (size_t) rows][i % (size_t) rows] - expected[i]);
        worst              = error > worst || error != error ? error : worst;
    }
    free(expected);
    return worst <= 1e-4 * sqrt(energy / (double) n);
}

static int64_t number(const char * text, int64_t least) {
    char *          end   = NULL;
    const long long value = strtoll(text, &end, 10);
    if (*end != '\0' || value < least) {
        fprintf(stderr, "%s is no number of at least %" PRId64 "\n", text, least);
        exit(1);
    }
    return value;
}

int main(int argc, char ** argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: kernels mul_mat|dequantize|quantize TYPE ROWS K COLUMNS SLICES MILLISECONDS\n");
        return 1;
    }
    const char * kernel = argv[1];
    struct job   job    = { 0 };
    job.rows            = number(argv[3], 1);
    job.k               = number(argv[4], 1);
    job.n_columns       = number(argv[5], 1);
    job.n_slices        = number(argv[6], 1);
    const double least  = 1e-3 * (double) number(argv[7], 0);

    int width = 0;
    for (int i = 0; i < N_WEIGHT_TYPES && strcmp(kernel, "quantize") != 0; ++i) {
        if (strcmp(argv[2], weight_types[i].name) == 0) {
            job.weights   = &weight_types[i];
            width         = job.weights->width;
            job.row_bytes = (size_t) (job.k / width) * job.weights->block_bytes;
        }
    }
    for (int i = 0; i < N_ACTIVATION_TYPES && strcmp(kernel, "quantize") == 0; ++i) {
        if (strcmp(argv[2], activation_types[i].name) == 0) {
            job.activations = &activation_types[i];
            width           = job.activations->width;
            job.row_bytes   = (size_t) job.k * sizeof(float);
        }
    }
    if (width == 0 || job.k % width != 0) {
        fprintf(stderr, "%s has no type %s with rows of %" PRId64 "\n", kernel, argv[2], job.k);
        return 1;
    }
    fill_slices(&job);
    job.row = allocate((size_t) job.k * sizeof(float) + 4096);

    call_fn call     = call_quantize;
    call_fn portable = call_quantize_generic;
    if (strcmp(kernel, "dequantize") == 0) {
        call     = call_dequantize;
        portable = NULL;
    } else if (strcmp(kernel, "mul_mat") == 0) {
        call     = call_mul_mat;
        portable = call_mul_mat_generic;
        fill_columns(&job);
    } else if (strcmp(kernel, "quantize") != 0) {
        fprintf(stderr, "there is no kernel %s\n", kernel);
        return 1;
    }
    if (least == 0) {
        return print_instructions(call, &job);
    }

    // the portable kernels are slow: some rows are enough
    const int64_t some     = ((int64_t) 1 << 22) / (job.k * job.n_columns) + 1;
    const int64_t few_rows = some < job.rows ? some : job.rows;
    if (call == call_mul_mat && !is_right(&job, few_rows)) {
        fprintf(stderr, "mul_mat of %s with %" PRId64 " columns is wrong\n", argv[2], job.n_columns);
        return 1;
    }
    int64_t calls  = 0;
    int64_t others = 0;
    // all slices once, to have caches and pages as they will be
    for (int64_t i = 0; i < job.n_slices; ++i) {
        call_read(&job, job.slices + (size_t) i * slice_bytes(&job), job.rows);
    }
    call(&job, job.slices, few_rows);

    const double taken          = seconds_a_call(call, &job, job.rows, least, &calls);
    const double frequency      = clock_frequency();
    const double reading        = seconds_a_call(call_read, &job, job.rows, least / 4, &others);
    const double portable_taken = portable ? seconds_a_call(portable, &job, few_rows, least / 4, &others) : 0;
    printf("{\"calls\": %" PRId64 ", \"seconds\": %.9g, \"bytes\": %zu, \"read_seconds\": %.9g, ", calls, taken,
           (size_t) job.rows * job.row_bytes, reading);
    printf("\"portable_seconds\": %.9g, \"gigahertz\": %.4f, \"checksum\": %" PRIu64 "}\n",
           portable_taken / (double) few_rows * (double) job.rows, frequency, read_total);
    return 0;
}
