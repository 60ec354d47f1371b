// AVX2 kernels of the EOQ types: the integer sums and the activation bytes of the portable versions in eoq-cpu.c.

#include "eoq-block.h"
#include "eoq-cpu.h"

#include <assert.h>
#include <string.h>

#if defined(__AVX2__)

#    include <immintrin.h>

#    define EOQ_SMALLEST_ACTIVATION 0x1p-100f

//
// activations
//

// butterflies of stride 1, 2 and 4 on eight consecutive values
static inline __m256 eoq_transform_8(__m256 v) {
    const __m256 odd1 = _mm256_setr_ps(0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f);
    const __m256 odd2 = _mm256_setr_ps(0.0f, 0.0f, -0.0f, -0.0f, 0.0f, 0.0f, -0.0f, -0.0f);
    const __m256 odd4 = _mm256_setr_ps(0.0f, 0.0f, 0.0f, 0.0f, -0.0f, -0.0f, -0.0f, -0.0f);
    v                 = _mm256_add_ps(_mm256_permute_ps(v, 0xB1), _mm256_xor_ps(v, odd1));
    v                 = _mm256_add_ps(_mm256_permute_ps(v, 0x4E), _mm256_xor_ps(v, odd2));
    v                 = _mm256_add_ps(_mm256_permute2f128_ps(v, v, 0x01), _mm256_xor_ps(v, odd4));
    return v;
}

// the sign bits of values 8 * i to 8 * i + 7
static inline __m256 eoq_signs_8(int i) {
    const __m256i bit  = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
    const __m256i word = _mm256_set1_epi32((int) (eoq_sign_words[i / 4] >> (8 * (i % 4))));
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_sllv_epi32(word, bit), _mm256_set1_epi32(INT32_MIN)));
}

static inline int32_t eoq_horizontal_sum(__m256i x) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    sum         = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1)));
}

static inline int32_t eoq_horizontal_max(__m256i x) {
    __m128i max = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    max         = _mm_max_epi32(max, _mm_shuffle_epi32(max, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(max, _mm_shuffle_epi32(max, 0xB1)));
}

static inline void eoq_quantize_activations(const float * x, int width, float * d, int32_t * s, int8_t * qs) {
    __m256    v[QK_EOQ / 8];
    const int n = width / 8;
    for (int i = 0; i < n; ++i) {
        v[i] = eoq_transform_8(_mm256_xor_ps(_mm256_loadu_ps(x + 8 * i), eoq_signs_8(i)));
    }
    for (int stride = 1; stride < n; stride *= 2) {
        for (int start = 0; start < n; start += 2 * stride) {
            for (int i = start; i < start + stride; ++i) {
                const __m256 low  = v[i];
                const __m256 high = v[i + stride];
                v[i]              = _mm256_add_ps(low, high);
                v[i + stride]     = _mm256_sub_ps(low, high);
            }
        }
    }
    // magnitudes compared as integers: infinity and NaN rank above every number
    __m256i magnitude = _mm256_setzero_si256();
    for (int i = 0; i < n; ++i) {
        const __m256i bits = _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(0x7FFFFFFF));
        magnitude          = _mm256_max_epi32(magnitude, bits);
    }
    const int32_t largest = eoq_horizontal_max(magnitude);
    float         amax;
    memcpy(&amax, &largest, sizeof(amax));
    const bool finite = largest < 0x7F800000;
    if (!finite || amax < EOQ_SMALLEST_ACTIVATION) {
        *d = finite ? 0.0f : amax / 127.0f;
        *s = 0;
        memset(qs, 0, (size_t) width);
        return;
    }
    const __m256  inverse = _mm256_set1_ps(127.0f / amax);
    const __m256i order   = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i       sum     = _mm256_setzero_si256();
    for (int i = 0; i < n; i += 4) {
        // the conversion rounds to nearest even
        const __m256i q0 = _mm256_cvtps_epi32(_mm256_mul_ps(v[i + 0], inverse));
        const __m256i q1 = _mm256_cvtps_epi32(_mm256_mul_ps(v[i + 1], inverse));
        const __m256i q2 = _mm256_cvtps_epi32(_mm256_mul_ps(v[i + 2], inverse));
        const __m256i q3 = _mm256_cvtps_epi32(_mm256_mul_ps(v[i + 3], inverse));
        sum              = _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_add_epi32(q0, q1), _mm256_add_epi32(q2, q3)));
        const __m256i q  = _mm256_packs_epi16(_mm256_packs_epi32(q0, q1), _mm256_packs_epi32(q2, q3));
        _mm256_storeu_si256((__m256i *) (qs + 8 * i), _mm256_permutevar8x32_epi32(q, order));
    }
    *d = amax / 127.0f;
    *s = eoq_horizontal_sum(sum);
}

#    define EOQ_DEFINE(T, t, width)                                                                         \
        void quantize_row_##t(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k) {           \
            assert(k % (width) == 0);                                                                       \
            block_##t * blocks = (block_##t *) y;                                                           \
            for (int64_t i = 0; i < k / (width); ++i) {                                                     \
                eoq_quantize_activations(x + i * (width), width, &blocks[i].d, &blocks[i].s, blocks[i].qs); \
            }                                                                                               \
        }
GGML_EOQ_ACTIVATION_TYPES(EOQ_DEFINE)
#    undef EOQ_DEFINE

//
// dot products
//

// tables are symmetric: the top bit of a code is the sign of its level (1: positive), the bits below it select the
// magnitude, counted from the largest down in the negative half
typedef struct {
    __m256i low;   // magnitudes 0 to 15 of the positive half
    __m256i high;  // magnitudes 16 to 31, 6 bits only
} eoq_magnitudes;

static inline eoq_magnitudes eoq_load_magnitudes(const int8_t * levels, int bits) {
    int8_t    positive[32] = { 0 };
    const int n            = 1 << (bits - 1);
    for (int i = 0; i < 32; ++i) {
        positive[i] = levels[n + i % n];
    }
    const eoq_magnitudes m = {
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) positive)),
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) (positive + 16))),
    };
    return m;
}

// 0xFF where the bit is zero, for 32 bits of a 1-bit plane
static inline __m256i eoq_zero_bits(const uint8_t * plane) {
    int32_t bits;
    memcpy(&bits, plane, sizeof(bits));
    const __m256i spread =
        _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i select = _mm256_set1_epi64x((int64_t) 0x8040201008040201);
    const __m256i bytes  = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, select), _mm256_setzero_si256());
}

// the low bits (2 or 4) of codes 32 * g to 32 * g + 31; bits above them are not cleared
static inline __m256i eoq_low_bits(const uint8_t * qs, int g, int bits, int width) {
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

// 32 products of levels and activations, added in groups of four
static inline __m256i eoq_dot_32(const uint8_t * qs, int g, int bits, int width, eoq_magnitudes m, const int8_t * q) {
    const int       low_bits = eoq_low_plane_bits(bits);
    const uint8_t * planes   = qs + low_bits * width / 8 + 4 * g;
    const __m256i   low      = eoq_low_bits(qs, g, bits, width);

    // negative: 0xFF where the level is negative
    __m256i negative;
    __m256i index;
    if (bits == low_bits) {
        const __m256i top = _mm256_set1_epi8((char) (1 << (bits - 1)));
        negative          = _mm256_cmpeq_epi8(_mm256_and_si256(low, top), _mm256_setzero_si256());
        index             = _mm256_xor_si256(low, negative);
    } else {
        negative = eoq_zero_bits(planes + (bits - low_bits - 1) * width / 8);
        index    = _mm256_xor_si256(low, negative);
    }
    const int magnitude_bits = bits - 1 < low_bits ? bits - 1 : low_bits;
    index                    = _mm256_and_si256(index, _mm256_set1_epi8((char) ((1 << magnitude_bits) - 1)));

    __m256i magnitude = _mm256_shuffle_epi8(m.low, index);
    if (bits == 6) {
        // the fifth bit of the magnitude's number is the code's, complemented in the negative half
        const __m256i lower = _mm256_xor_si256(eoq_zero_bits(planes), negative);
        magnitude           = _mm256_blendv_epi8(_mm256_shuffle_epi8(m.high, index), magnitude, lower);
    }
    const __m256i sign     = _mm256_or_si256(negative, _mm256_set1_epi8(1));
    const __m256i signed_q = _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *) q), sign);
    // at most 2 * 127 * 127, so the 16-bit sums do not saturate
    return _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, signed_q), _mm256_set1_epi16(1));
}

static inline float eoq_horizontal_sum_f32(__m256 x) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    sum        = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

#    define EOQ_DEFINE(T, t, bits, width, A, a)                                                                        \
        void ggml_vec_dot_##t##_##a(int n, float * GGML_RESTRICT s, size_t bs, const void * GGML_RESTRICT vx,          \
                                    size_t bx, const void * GGML_RESTRICT vy, size_t by, int nrc) {                    \
            assert(n % (width) == 0 && nrc == 1);                                                                      \
            (void) bs, (void) bx, (void) by, (void) nrc;                                                               \
            const block_##t *    x   = (const block_##t *) vx;                                                         \
            const block_##a *    y   = (const block_##a *) vy;                                                         \
            const eoq_magnitudes m   = eoq_load_magnitudes(eoq##bits##_levels, bits);                                  \
            __m256               sum = _mm256_setzero_ps();                                                            \
            for (int ib = 0; ib < n / (width); ++ib) {                                                                 \
                __m256i dot = _mm256_setzero_si256();                                                                  \
                for (int g = 0; g < (width) / 32; ++g) {                                                               \
                    dot = _mm256_add_epi32(dot, eoq_dot_32(x[ib].qs, g, bits, width, m, y[ib].qs + 32 * g));           \
                }                                                                                                      \
                const float scale = eoq_scale_to_float(x[ib].d) * EOQ_LEVEL_UNIT * y[ib].d;                            \
                sum               = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_cvtepi32_ps(dot))); \
            }                                                                                                          \
            *s = eoq_horizontal_sum_f32(sum);                                                                          \
        }
GGML_EOQ_WEIGHT_TYPES(EOQ_DEFINE)
#    undef EOQ_DEFINE

#endif
