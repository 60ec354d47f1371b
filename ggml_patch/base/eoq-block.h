#pragma once

// What the portable code of the EOQ types shares: signs, transform, levels, scales. Sections of docs/format.md.

#include "eoq-format.h"
#include "ggml-eoq.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define EOQ_INPUT_LIMIT  0x1p100f
#define EOQ_MAX_SCALE    65504.0f
#define EOQ_NOT_A_NUMBER 0x7E00  // a scale that ggml_validate_row_data refuses

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

// section 3: levels by code of the scalar types
EOQ_INLINE const int8_t * eoq_scalar_levels(int bits) {
    return bits == 2 ? eoq2_levels :
           bits == 3 ? eoq3_levels :
           bits == 4 ? eoq4_levels :
           bits == 5 ? eoq5_levels :
                       eoq6_levels;
}

// section 2: all codes of a block of a scalar type
EOQ_INLINE void eoq_unpack(const uint8_t * qs, int bits, int width, uint8_t * codes) {
    const int low_bits  = eoq_low_plane_bits(bits);
    const int low_bytes = low_bits * width / 8;
    for (int part = 0; part < 8 / low_bits; ++part) {
        for (int j = 0; j < low_bytes; ++j) {
            codes[part * low_bytes + j] = (uint8_t) (qs[j] >> (low_bits * part) & ((1 << low_bits) - 1));
        }
    }
    for (int bit = low_bits; bit < bits; ++bit) {
        const uint8_t * plane = qs + low_bytes + (bit - low_bits) * width / 8;
        for (int j = 0; j < width / 8; ++j) {
            for (int i = 0; i < 8; ++i) {
                codes[8 * j + i] |= (uint8_t) ((plane[j] >> i & 1) << bit);
            }
        }
    }
}

EOQ_INLINE bool eoq_has_free_bit(int bits) {
    return bits != eoq_low_plane_bits(bits);
}

// section 3: tables of the trellis types: levels by number, or what the code contributes; what the codes before contribute;
// and by which bits
EOQ_INLINE const int8_t * eoq_trellis_first(int bits) {
    return bits == 2 ? eoq2t_levels : bits == 3 ? eoq3t_levels : bits == 4 ? eoq4t_first : eoq5t_first;
}

EOQ_INLINE const int8_t * eoq_trellis_second(int bits) {
    return bits == 4 ? eoq4t_second : eoq5t_second;
}

EOQ_INLINE const uint8_t * eoq_trellis_older(int bits) {
    return bits == 4 ? eoq4t_older : eoq5t_older;
}

// section 3: all levels of a block of a trellis type. The plane's bytes stand in rows of 32 and are taken column by
// column; with the byte before, each holds all bits that the levels of its codes depend on. The free bits choose one of
// two tables.
EOQ_INLINE void eoq_trellis_levels(const uint8_t * qs, int bits, int width, int8_t * levels) {
    const int       code_bits = eoq_low_plane_bits(bits);
    const int       plane     = code_bits * width / 8;
    const int       columns   = plane < EOQ_CHAIN_COLUMNS ? plane : EOQ_CHAIN_COLUMNS;
    const int8_t *  first     = eoq_trellis_first(bits);
    const int8_t *  second    = eoq_trellis_second(bits);
    const uint8_t * older     = eoq_trellis_older(bits);
    int             before    = 0;
    for (int column = 0; column < columns; ++column) {
        for (int j = column; j < plane; j += columns) {
            const int window = before | qs[j] << 8;
            before           = qs[j];
            for (int field = 0; field < 8 / code_bits; ++field) {
                const int      i      = field * plane + j;
                const int8_t * chosen = first;
                if (eoq_has_free_bit(bits)) {
                    chosen += 16 * (qs[plane + i % (width / 8)] >> (i / (width / 8)) & 1);
                }
                if (code_bits == 2) {
                    levels[i] = chosen[eoq_trellis_number[window >> (2 * field) & 0x3FF]];
                } else {
                    const int codes   = window >> (4 * field);
                    const int history = (codes & 15) ^ older[codes >> 4 & 15];
                    levels[i]         = (int8_t) (chosen[codes >> 8 & 15] + second[history]);
                }
            }
        }
    }
}

// levels of a block by position
EOQ_INLINE void eoq_block_levels(const uint8_t * qs, int code, int width, int8_t * levels) {
    if (code >= EOQ_TRELLIS) {
        eoq_trellis_levels(qs, code - EOQ_TRELLIS, width, levels);
        return;
    }
    uint8_t codes[256];
    eoq_unpack(qs, code, width, codes);
    for (int i = 0; i < width; ++i) {
        levels[i] = eoq_scalar_levels(code)[codes[i]];
    }
}

// One stage of butterflies, of values half the width apart; sums and differences come to stand side by side. So each
// stage takes the highest bit of the positions and makes it the lowest, and after all of them the order is the first
// again. All stages are alike, and load and store whole vectors.
EOQ_INLINE void eoq_level_butterflies(const int16_t * GGML_RESTRICT from, int16_t * GGML_RESTRICT to, int width) {
    for (int i = 0; i < width / 2; ++i) {
        to[2 * i]     = (int16_t) (from[i] + from[width / 2 + i]);
        to[2 * i + 1] = (int16_t) (from[i] - from[width / 2 + i]);
    }
}

// transform of the levels; integer butterflies may come in any order
EOQ_INLINE void eoq_transform_levels(const int8_t * levels, int width, int16_t * v) {
    int16_t other[QK_EOQ_MAX];
    bool    in_v = width != 128;  // an even number of stages ends where it began
    for (int i = 0; i < width; ++i) {
        (in_v ? v : other)[i] = levels[i];
    }
    for (int done = 1; done < width; done *= 2) {
        eoq_level_butterflies(in_v ? v : other, in_v ? other : v, width);
        in_v = !in_v;
    }
}

// -1 where the sign is negative, 0 elsewhere
EOQ_INLINE void eoq_sign_masks(int width, int16_t * masks) {
    for (int i = 0; i < width; ++i) {
        masks[i] = (int16_t) -eoq_sign_is_negative(i);
    }
}

// section 4: weights of a block by its levels; `block` begins with its scale
EOQ_INLINE void eoq_weights_of_levels(const int8_t *  levels,
                                      int             width,
                                      const int16_t * signs,
                                      const uint8_t * block,
                                      float *         y) {
    int16_t  v[QK_EOQ_MAX];
    uint16_t d;
    memcpy(&d, block, sizeof(d));
    eoq_transform_levels(levels, width, v);
    const float scale = eoq_scale_to_float(d) * EOQ_LEVEL_UNIT;
    for (int i = 0; i < width; ++i) {
        y[i] = (float) (int16_t) ((v[i] ^ signs[i]) - signs[i]) * scale;
    }
}

// a non-negative scale: to float, saturated, to fp16, each to nearest even
static inline uint16_t eoq_scale_to_fp16(double scale) {
    const float narrow = (float) scale;
    const float x      = narrow < EOQ_MAX_SCALE ? narrow : EOQ_MAX_SCALE;
    if (x < 0x1p-14f) {
        return (uint16_t) rintf(x * 0x1p24f);
    }
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    bits += 0xFFF + (bits >> 13 & 1);
    return (uint16_t) ((bits >> 13) - ((127 - 15) << 10));
}

// upper half onto lower half until one value is left; the order is part of the format
static inline double eoq_sum_by_halves(double * x, int n) {
    for (n /= 2; n > 0; n /= 2) {
        for (int i = 0; i < n; ++i) {
            x[i] += x[i + n];
        }
    }
    return x[0];
}

// section 5.1: clamped and rotated; false where a weight is no number or infinite
static inline bool eoq_rotate_weights(const float * x, int width, float * v) {
    for (int i = 0; i < width; ++i) {
        if (!isfinite(x[i])) {
            return false;
        }
        float clamped = x[i] < -EOQ_INPUT_LIMIT ? -EOQ_INPUT_LIMIT : x[i];
        clamped       = clamped > EOQ_INPUT_LIMIT ? EOQ_INPUT_LIMIT : clamped;
        v[i]          = eoq_sign_is_negative(i) ? -clamped : clamped;
    }
    eoq_transform_f32(v, width);
    return true;
}
