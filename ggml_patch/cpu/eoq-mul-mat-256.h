#pragma once

// What the matrix products with vectors of 256 bits share: bits of codes, activations, sums.

#include "eoq-kernel.h"

// 0xFF where the bit is zero, for 32 bits of a 1-bit plane
EOQ_INLINE __m256i eoq_zero_bits(const uint8_t * plane) {
    int32_t bits;
    memcpy(&bits, plane, sizeof(bits));
    const __m256i spread =
        _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i select = _mm256_set1_epi64x((int64_t) 0x8040201008040201);
    const __m256i bytes  = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, select), _mm256_setzero_si256());
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

EOQ_INLINE float eoq_horizontal_sum(__m256 x) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    sum        = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

// compilers that load for all columns first run out of registers, which halves the speed
#if defined(__GNUC__)
#    define EOQ_KEEP_ORDER(a, b) __asm__ volatile("" : "+x"(a), "+x"(b))
#else
#    define EOQ_KEEP_ORDER(a, b)
#endif
