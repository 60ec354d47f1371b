#pragma once

// Reads memory and does next to nothing with it: what any kernel that reads as much can reach at best.

#include <stddef.h>
#include <stdint.h>

// as wide as the compiler's flags allow
#if defined(__BIGGEST_ALIGNMENT__) && __BIGGEST_ALIGNMENT__ >= 16
typedef uint64_t read_vector __attribute__((vector_size(__BIGGEST_ALIGNMENT__)));
#else
typedef uint64_t read_vector __attribute__((vector_size(16)));
#endif

// bytes that read_sum goes forward at a time
enum { READ_STEP = 8 * sizeof(read_vector) };

// sum of all words but the last size % READ_STEP bytes; data is aligned to a vector
static inline uint64_t read_sum(const void * data, size_t size) {
    const read_vector * v = (const read_vector *) data;
    const size_t        n = size / READ_STEP * 8;

    // eight sums, so that no addition waits for the one before
    read_vector s0 = { 0 }, s1 = { 0 }, s2 = { 0 }, s3 = { 0 }, s4 = { 0 }, s5 = { 0 }, s6 = { 0 }, s7 = { 0 };
    for (size_t i = 0; i < n; i += 8) {
        s0 += v[i];
        s1 += v[i + 1];
        s2 += v[i + 2];
        s3 += v[i + 3];
        s4 += v[i + 4];
        s5 += v[i + 5];
        s6 += v[i + 6];
        s7 += v[i + 7];
    }
    const read_vector all = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
    uint64_t          sum = 0;
    for (size_t i = 0; i < sizeof(all) / sizeof(uint64_t); ++i) {
        sum += all[i];
    }
    return sum;
}
