// The activation quantiser with NEON: the bytes of the portable version in eoq-cpu.c.

#include "eoq-cpu.h"
#include "eoq-kernel.h"

#if defined(EOQ_NEON)

// butterflies of stride 1 and 2 on four values and four others
EOQ_INLINE void eoq_transform_4(float32x4_t * a, float32x4_t * b) {
    const float32x4_t even = vtrn1q_f32(*a, *b);
    const float32x4_t odd  = vtrn2q_f32(*a, *b);
    const float64x2_t v02  = vreinterpretq_f64_f32(vaddq_f32(even, odd));  // after stride 1: a[0] b[0] a[2] b[2]
    const float64x2_t v13  = vreinterpretq_f64_f32(vsubq_f32(even, odd));  // a[1] b[1] a[3] b[3]
    const float32x4_t low  = vreinterpretq_f32_f64(vtrn1q_f64(v02, v13));
    const float32x4_t high = vreinterpretq_f32_f64(vtrn2q_f64(v02, v13));
    const float32x4_t v01  = vaddq_f32(low, high);
    const float32x4_t v23  = vsubq_f32(low, high);
    *a                     = vuzp1q_f32(v01, v23);
    *b                     = vuzp2q_f32(v01, v23);
}

// n pairs of vectors, `stride` vectors apart
EOQ_INLINE void eoq_butterflies(float32x4_t * v, int stride, int n) {
    EOQ_UNROLL
    for (int i = 0; i < n; ++i) {
        float32x4_t *     at   = v + i / stride * 2 * stride + i % stride;
        const float32x4_t low  = at[0];
        const float32x4_t high = at[stride];
        at[0]                  = vaddq_f32(low, high);
        at[stride]             = vsubq_f32(low, high);
    }
}

enum { EOQ_VECTORS_OF_64 = 16 };

// 64 values with their signs, transformed: as many as there are registers for
EOQ_INLINE void eoq_transform_64(const float * x, const uint32_t * signs, float32x4_t * v) {
    const int32_t    to_top[4] = { 31, 30, 29, 28 };
    const int32x4_t  shift     = vld1q_s32(to_top);
    const uint32x4_t top       = vdupq_n_u32(0x80000000);
    EOQ_UNROLL
    for (int i = 0; i < EOQ_VECTORS_OF_64; ++i) {
        const uint32x4_t word = vdupq_n_u32(signs[i / 8] >> (4 * (i % 8)));
        const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + 4 * i));
        v[i]                  = vreinterpretq_f32_u32(veorq_u32(bits, vandq_u32(vshlq_u32(word, shift), top)));
    }
    EOQ_UNROLL
    for (int i = 0; i < EOQ_VECTORS_OF_64; i += 2) {
        eoq_transform_4(&v[i], &v[i + 1]);
    }
    eoq_butterflies(v, 1, EOQ_VECTORS_OF_64 / 2);
    eoq_butterflies(v, 2, EOQ_VECTORS_OF_64 / 2);
    eoq_butterflies(v, 4, EOQ_VECTORS_OF_64 / 2);
    eoq_butterflies(v, 8, EOQ_VECTORS_OF_64 / 2);
}

EOQ_INLINE int16x8_t eoq_round_8(const float32x4_t * v, float inverse, int32x4_t * sum) {
    // the conversion rounds to nearest even
    const int32x4_t q0 = vcvtnq_s32_f32(vmulq_n_f32(v[0], inverse));
    const int32x4_t q1 = vcvtnq_s32_f32(vmulq_n_f32(v[1], inverse));
    *sum               = vaddq_s32(*sum, vaddq_s32(q0, q1));
    return vuzp1q_s16(vreinterpretq_s16_s32(q0), vreinterpretq_s16_s32(q1));
}

EOQ_INLINE void eoq_quantize_activations(const float * x, int width, float * d, int32_t * s, int8_t * qs) {
    float32x4_t v[QK_EOQ_MAX / 4];
    const int   n = width / 4;
    EOQ_UNROLL
    for (int i = 0; i < width / 64; ++i) {
        eoq_transform_64(x + 64 * i, eoq_sign_words + 2 * i, v + EOQ_VECTORS_OF_64 * i);
    }
    for (int stride = EOQ_VECTORS_OF_64; stride < n; stride *= 2) {
        eoq_butterflies(v, stride, n / 2);
    }
    // magnitudes compared as integers: infinity and NaN rank above every number
    int32x4_t magnitude = vdupq_n_s32(0);
    EOQ_UNROLL
    for (int i = 0; i < n; ++i) {
        magnitude = vmaxq_s32(magnitude, vandq_s32(vreinterpretq_s32_f32(v[i]), vdupq_n_s32(0x7FFFFFFF)));
    }
    const int32_t largest = vmaxvq_s32(magnitude);
    float         amax;
    memcpy(&amax, &largest, sizeof(amax));
    const bool finite = largest < 0x7F800000;
    if (!finite || amax < EOQ_SMALLEST_ACTIVATION) {
        *d = finite ? 0.0f : amax / 127.0f;
        *s = 0;
        memset(qs, 0, (size_t) width);
        return;
    }
    const float inverse = 127.0f / amax;
    int32x4_t   sum     = vdupq_n_s32(0);
    EOQ_UNROLL
    for (int i = 0; i < n; i += 4) {
        const int16x8_t low  = eoq_round_8(v + i, inverse, &sum);
        const int16x8_t high = eoq_round_8(v + i + 2, inverse, &sum);
        vst1q_s8(qs + 4 * i, vuzp1q_s8(vreinterpretq_s8_s16(low), vreinterpretq_s8_s16(high)));
    }
    *d = amax / 127.0f;
    *s = vaddvq_s32(sum);
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
