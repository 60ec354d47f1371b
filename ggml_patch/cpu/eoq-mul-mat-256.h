#pragma once

// What the matrix products with vectors of 256 bits share: bits of codes, activations, sums.

#include "eoq-kernel.h"

enum { EOQ_STREAMS = 2, EOQ_FEW_COLUMNS = 4 };

enum {
    EOQ_TILE_COLUMNS = 4,    // sums in registers at a time, two for each
    EOQ_MANY_COLUMNS = 128,  // float sums on the stack: 8 KiB
};

typedef __m256 eoq_row_sums[2];

// bits of a 1-bit plane, 32 of them: each by itself in a byte that is else zero
EOQ_INLINE __m256i eoq_spread_bits(const uint8_t * plane) {
    int32_t bits;
    memcpy(&bits, plane, sizeof(bits));
    const __m256i spread =
        _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i select = _mm256_set1_epi64x((int64_t) 0x8040201008040201);
    return _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread), select);
}

// 0xFF where the bit is zero
EOQ_INLINE __m256i eoq_zero_bits(const uint8_t * plane) {
    return _mm256_cmpeq_epi8(eoq_spread_bits(plane), _mm256_setzero_si256());
}

// the low bits (2 or 4) of codes 32 * g to 32 * g + 31; bits above them are not cleared
EOQ_INLINE __m256i eoq_low_bits(const uint8_t * qs, int g, int bits, int width) {
    if (bits >= 4) {
        const int     half  = width / 64;  // vectors of 32 bytes in the 4-bit plane
        const __m256i bytes = _mm256_loadu_si256((const __m256i *) (qs + 32 * (g % half)));
        return g < half ? bytes : _mm256_srli_epi16(bytes, 4);
    }
    if (width == 128) {
        return _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *) qs), 2 * g);
    }
    const __m128i bytes = _mm_loadu_si128((const __m128i *) qs);
    return _mm256_set_m128i(_mm_srli_epi16(bytes, 4 * g + 2), _mm_srli_epi16(bytes, 4 * g));
}

EOQ_INLINE __m256i eoq_load_activations(const uint8_t * block, int g) {
    return _mm256_loadu_si256((const __m256i *) (block + EOQ_ACTIVATION_HEADER + 32 * g));
}

// sums[h] += the integer products of a tile's rows 8 * h to 8 * h + 7 with a block of activations, times both scales
EOQ_INLINE void eoq_add_products(const __m256 * scales, const uint8_t * y, const __m256i * dot, __m256 * sums) {
    const __m256 d = _mm256_set1_ps(eoq_activation_scale(y));
    for (int h = 0; h < 2; ++h) {
        const __m256 scale = _mm256_mul_ps(scales[h], d);
        sums[h]            = _mm256_add_ps(sums[h], _mm256_mul_ps(scale, _mm256_cvtepi32_ps(dot[h])));
    }
}

EOQ_INLINE void eoq_store_sums(eoq_row_sums * sums, float * values) {
    _mm256_storeu_ps(values, (*sums)[0]);
    _mm256_storeu_ps(values + 8, (*sums)[1]);
}

// compilers that load for all columns first, or add up late, run out of registers, which halves the speed
#if defined(__GNUC__)
#    define EOQ_ADD_NOW(sum)     __asm__("" : "+x"(sum))
#    define EOQ_KEEP_ORDER(a, b) __asm__ volatile("" : "+x"(a), "+x"(b))
#else
#    define EOQ_ADD_NOW(sum)
#    define EOQ_KEEP_ORDER(a, b)
#endif
