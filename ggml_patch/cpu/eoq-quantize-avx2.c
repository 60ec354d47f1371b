// The activation quantiser with AVX2: the bytes of the portable version in eoq-cpu.c.

#include "eoq-cpu.h"
#include "eoq-kernel.h"

#if defined(EOQ_AVX2)

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
    __m256    v[QK_EOQ_MAX / 8];
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

EOQ_INLINE void eoq_quantize_activation_row(const float * x, uint8_t * y, int64_t k, int width) {
    assert(k % width == 0);
    for (int64_t i = 0; i < k / width; ++i, y += EOQ_ACTIVATION_HEADER + width) {
        float   d;
        int32_t s;
        eoq_quantize_activations(x + i * width, width, &d, &s, (int8_t *) y + EOQ_ACTIVATION_HEADER);
        eoq_store_activation_header(y, d, s);
    }
}

#    define EOQ_DEFINE(T, t, width)                                                               \
        void quantize_row_##t(const float * GGML_RESTRICT x, void * GGML_RESTRICT y, int64_t k) { \
            eoq_quantize_activation_row(x, (uint8_t *) y, k, width);                              \
        }
GGML_EOQ_ACTIVATION_TYPES(EOQ_DEFINE)
#    undef EOQ_DEFINE

#endif
