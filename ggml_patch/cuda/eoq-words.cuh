#pragma once

// Words of 32 bits as four bytes or eight hexadecimal digits: loads, look-ups, sums. Everything here and in the
// headers that include it is also compiled for the host, where tests hold it against the reference, a warp as a loop
// over lanes.

#include "eoq-format.h"
#include "ggml-eoq.h"

#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__) || defined(__HIPCC__) || defined(__MUSACC__)
#    define EOQ_HD static __host__ __device__ __forceinline__
#else
#    define EOQ_HD static inline
#endif

// before loops over registers
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
#    define EOQ_UNROLLED _Pragma("unroll")
#else
#    define EOQ_UNROLLED
#endif

#if defined(__CUDA_ARCH__) && !defined(GGML_USE_HIP) && !defined(GGML_USE_MUSA)
#    define EOQ_ON_NVIDIA
#endif

// a lane of a product has this many codes of a block
#define EOQ_LANE_CODES 32

// what all types have in common
template <int code, int width> struct eoq_block_shape {
    static constexpr int block_bytes = 2 + EOQ_BITS(code) * width / 8;
    static constexpr int lanes       = width / EOQ_LANE_CODES;  // lanes of a product that share a block
};

// bytes of a and b (together 0 to 7) by the four lowest hexadecimal digits of `selectors`, whose highest bits are
// ignored
EOQ_HD uint32_t eoq_byte_perm(uint32_t a, uint32_t b, uint32_t selectors) {
#if defined(EOQ_ON_NVIDIA)
    return __byte_perm(a, b, selectors);
#else
    const uint64_t bytes  = (uint64_t) b << 32 | a;
    uint32_t       result = 0;
    for (int i = 0; i < 4; ++i) {
        result |= (uint32_t) (bytes >> (8 * (selectors >> (4 * i) & 7)) & 0xFF) << (8 * i);
    }
    return result;
#endif
}

// The same, but a digit with its highest bit set gives eight copies of its byte's highest bit: 0, where that is not
// set.
EOQ_HD uint32_t eoq_permute(uint32_t a, uint32_t b, uint32_t selectors) {
#if defined(EOQ_ON_NVIDIA)
    uint32_t result;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(selectors));
    return result;
#else
    const uint64_t bytes  = (uint64_t) b << 32 | a;
    uint32_t       result = 0;
    for (int i = 0; i < 4; ++i) {
        const uint32_t byte = (uint32_t) (bytes >> (8 * (selectors >> (4 * i) & 7)) & 0xFF);
        result |= (selectors >> (4 * i) & 8 ? (byte >> 7) * 0xFF : byte) << (8 * i);
    }
    return result;
#endif
}

// bits of a where the mask has them, of b elsewhere; compilers make two instructions of it where the mask is a constant
EOQ_HD uint32_t eoq_blend(uint32_t a, uint32_t b, uint32_t mask) {
#if defined(EOQ_ON_NVIDIA)
    uint32_t result;
    asm("lop3.b32 %0, %1, %2, %3, 0xCA;" : "=r"(result) : "r"(mask), "r"(a), "r"(b));
    return result;
#else
    return (a & mask) | (b & ~mask);
#endif
}

// sum + the four products of signed bytes
EOQ_HD int32_t eoq_dp4a(uint32_t a, uint32_t b, int32_t sum) {
#if defined(EOQ_ON_NVIDIA) && __CUDA_ARCH__ >= 610
    return __dp4a((int) a, (int) b, sum);
#else
    for (int i = 0; i < 4; ++i) {
        sum += (int8_t) (a >> (8 * i)) * (int8_t) (b >> (8 * i));
    }
    return sum;
#endif
}

// four levels of a table, plus `bias`, as bytes of a word; a constant wherever it is used
template <typename table> EOQ_HD constexpr uint32_t eoq_packed(const table & levels, int first, int bias = 0) {
    return (uint32_t) (uint8_t) (levels[first] + bias) | (uint32_t) (uint8_t) (levels[first + 1] + bias) << 8 |
           (uint32_t) (uint8_t) (levels[first + 2] + bias) << 16 |
           (uint32_t) (uint8_t) (levels[first + 3] + bias) << 24;
}

#define EOQ_PACKED(name, levels, first) constexpr uint32_t name = eoq_packed(levels, first)

EOQ_HD uint32_t eoq_load_aligned(const uint8_t * from) {
#if defined(EOQ_ON_NVIDIA)
    return *(const uint32_t *) from;
#else
    uint32_t word;
    memcpy(&word, from, sizeof(word));
    return word;
#endif
}

// the lower half of the 64 bits of `high` and `low`, shifted to the right by less than 32
EOQ_HD uint32_t eoq_funnel_shift(uint32_t low, uint32_t high, uint32_t shift) {
#if defined(EOQ_ON_NVIDIA)
    return __funnelshift_r(low, high, shift);
#else
    return (uint32_t) (((uint64_t) high << 32 | low) >> shift);
#endif
}

// `n` words from an address that is a multiple of 2; nothing but the aligned words that they lie in is read
template <int n> EOQ_HD void eoq_load_words(const uint8_t * from, uint32_t * words) {
    const bool      is_odd  = (uintptr_t) from & 2;
    const uint8_t * aligned = from - (is_odd ? 2 : 0);
    const uint32_t  shift   = is_odd ? 16 : 0;
    uint32_t        word    = eoq_load_aligned(aligned);
    EOQ_UNROLLED
    for (int i = 0; i < n; ++i) {
        const uint32_t next = eoq_load_aligned(aligned + 4 * (i + 1 < n || is_odd ? i + 1 : i));
        words[i]            = eoq_funnel_shift(word, next, shift);
        word                = next;
    }
}

EOQ_HD uint32_t eoq_load_16_bits(const uint8_t * from) {
#if defined(EOQ_ON_NVIDIA)
    return *(const uint16_t *) from;
#else
    uint16_t bits;
    memcpy(&bits, from, sizeof(bits));
    return bits;
#endif
}
