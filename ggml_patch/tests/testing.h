#pragma once

// What the tests share: the types as a table of functions, random numbers, exactly sized buffers, a check.

#include "check.h"
#include "eoq-cpu.h"
#include "eoq-format.h"
#include "eoq-mul-mat.h"
#include "ggml-eoq.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*vec_dot_fn)(int, float *, size_t, const void *, size_t, const void *, size_t, int);

struct activation_type {
    const char * name;
    int          width;
    size_t       block_bytes;
    void (*quantize)(const float *, void *, int64_t);
    void (*quantize_generic)(const float *, void *, int64_t);
};

struct weight_type {
    const char * name;
    int          bits;
    bool         is_trellis;
    int          width;
    size_t       block_bytes;
    void (*quantize_ref)(const float *, void *, int64_t);
    void (*from_float)(const float *, void *, int64_t);
    void (*dequantize)(const void *, float *, int64_t);
    void (*dequantize_cpu)(const void *, float *, int64_t);
    size_t (*quantize)(const float *, void *, int64_t, int64_t, const float *);
    vec_dot_fn                     vec_dot;
    vec_dot_fn                     vec_dot_generic;
    eoq_mul_mat_fn                 mul_mat;
    eoq_mul_mat_fn                 mul_mat_generic;
    const struct activation_type * activation;
};

// clang-format off
#define TABLE_ENTRY(T, t, width) \
    static const struct activation_type type_##t = { \
        #t, width, sizeof(block_##t), quantize_row_##t, quantize_row_##t##_generic };
GGML_EOQ_ACTIVATION_TYPES(TABLE_ENTRY)
#undef TABLE_ENTRY

// the headers take typed blocks, the table void pointers
#define WRAPPERS(T, t, code, width, A, a) \
    static void quantize_ref_##t(const float * x, void * y, int64_t k) { quantize_row_##t##_ref(x, y, k); } \
    static void dequantize_##t(const void * x, float * y, int64_t k) { dequantize_row_##t(x, y, k); }
GGML_EOQ_WEIGHT_TYPES(WRAPPERS)
#undef WRAPPERS

#define TABLE_ENTRY(T, t, code, width, A, a) \
    { #t, EOQ_BITS(code), EOQ_IS_TRELLIS(code), width, sizeof(block_##t), quantize_ref_##t, quantize_row_##t, dequantize_##t, \
      ggml_eoq_dequantize_row_##t, quantize_##t, \
      ggml_vec_dot_##t##_##a, ggml_vec_dot_##t##_##a##_generic, \
      ggml_eoq_mul_mat_##t, ggml_eoq_mul_mat_##t##_generic, &type_##a },
static const struct weight_type weight_types[] = { GGML_EOQ_WEIGHT_TYPES(TABLE_ENTRY) };
#undef TABLE_ENTRY
// clang-format on

enum { N_WEIGHT_TYPES = sizeof(weight_types) / sizeof(weight_types[0]) };

// xorshift64*: the same numbers on every machine
static inline uint64_t random_u64(uint64_t * state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static inline void random_bytes(uint64_t * state, void * data, size_t size) {
    for (size_t i = 0; i < size; ++i) {
        ((uint8_t *) data)[i] = (uint8_t) (random_u64(state) >> 56);
    }
}

// uniform in lo..hi, both included
static inline int random_int(uint64_t * state, int lo, int hi) {
    return lo + (int) ((random_u64(state) >> 33) % (uint64_t) (hi - lo + 1));
}

// N(0, 1) by Box and Muller
static inline float random_normal(uint64_t * state) {
    const double u = ((double) (random_u64(state) >> 11) + 0.5) / 9007199254740992.0;
    const double v = (double) (random_u64(state) >> 11) / 9007199254740992.0;
    return (float) (sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

// exactly `size` bytes on the heap, so that a sanitizer sees the first byte read or written beyond them
static inline void * exact_buffer(size_t size) {
    void * buffer = malloc(size);
    if (buffer == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return buffer;
}

// copies `size` bytes into an exact buffer
static inline void * exact_copy(const void * data, size_t size) {
    return memcpy(exact_buffer(size), data, size);
}

static inline float half_to_float(uint16_t h) {
    const int   exponent = (h >> 10) & 31;
    const int   fraction = h & 1023;
    const float sign     = (h & 0x8000) ? -1.0f : 1.0f;
    if (exponent == 31) {
        return fraction ? NAN : sign * INFINITY;
    }
    return sign * (exponent ? ldexpf((float) (1024 + fraction), exponent - 25) : ldexpf((float) fraction, -24));
}

// the fp16 scale is the first field of every weight block
static inline uint16_t block_scale(const void * block) {
    uint16_t d;
    memcpy(&d, block, sizeof(d));
    return d;
}

enum { SCALE_ONE = 0x3C00 };  // 1.0 in fp16

static inline void set_block_scale(void * block, uint16_t d) {
    memcpy(block, &d, sizeof(d));
}
