#pragma once

// What the portable code of ggml-eoq.c and eoq-cpu.c share: signs, transform, codes. Sections of docs/format.md.

#include "eoq-format.h"

#include <stdbool.h>
#include <stdint.h>

// the compiler folds bits and width, which are constants in every use
#if defined(_MSC_VER)
#    define EOQ_INLINE static __forceinline
#else
#    define EOQ_INLINE static inline __attribute__((always_inline))
#endif

// section 3
static inline bool eoq_sign_is_negative(int i) {
    return eoq_sign_words[i / 32] >> (i % 32) & 1;
}

// section 3: unnormalised Walsh-Hadamard transform in natural order, butterflies of stride 1, 2, 4, ...
static inline void eoq_transform_f32(float * v, int width) {
    for (int stride = 1; stride < width; stride *= 2) {
        for (int start = 0; start < width; start += 2 * stride) {
            for (int i = start; i < start + stride; ++i) {
                const float low  = v[i];
                const float high = v[i + stride];
                v[i]             = low + high;
                v[i + stride]    = low - high;
            }
        }
    }
}

// bits of a code in the first plane
static inline int eoq_low_plane_bits(int bits) {
    return bits < 4 ? 2 : 4;
}

// section 2: code i of a block
static inline int eoq_code(const uint8_t * qs, int i, int bits, int width) {
    const int low_bits  = eoq_low_plane_bits(bits);
    const int low_bytes = low_bits * width / 8;
    int       code      = qs[i % low_bytes] >> (low_bits * (i / low_bytes)) & ((1 << low_bits) - 1);
    for (int bit = low_bits; bit < bits; ++bit) {
        code |= (qs[low_bytes + (bit - low_bits) * width / 8 + i / 8] >> (i % 8) & 1) << bit;
    }
    return code;
}
