// Quantising to a trellis: scale from the root mean square, the cheapest path (Viterbi), least-squares scale.
// Sections of docs/format.md. Costs are whole numbers that fit int16, so that compilers make vectors of them.

#include "eoq-trellis.h"

#include "eoq-block.h"

#include <assert.h>
#include <stdlib.h>

enum { EOQ_STATES = 256 };

// A trellis of 2^code_bits codes: a state is the newest of its codes times `newer`, plus the others
typedef struct {
    int16_t doubled[2][16 * EOQ_STATES];  // [free bit][oldest code, state]: twice the level of coming to it
    int16_t by_number[2][EOQ_STATES];     // [free bit][number of the older codes, code] of codes of 4 bits: the same
    int16_t costs[QK_EOQ_MAX + 1][EOQ_STATES];  // space to work: [steps taken], of the cheapest path to each state
    int     lowest;                             // of the levels
    int     highest;
    double  factor;
} eoq_trellis;

// levels of all steps of the trellis: of the chain (oldest code, ..., newest code)
static void eoq_make_trellis(int bits, eoq_trellis * t) {
    const int code_bits = eoq_low_plane_bits(bits);
    const int radix     = 1 << code_bits;
    t->lowest           = bits == 2 ? EOQ2T_LOWEST : bits == 3 ? EOQ3T_LOWEST : bits == 4 ? EOQ4T_LOWEST : EOQ5T_LOWEST;
    t->highest = bits == 2 ? EOQ2T_HIGHEST : bits == 3 ? EOQ3T_HIGHEST : bits == 4 ? EOQ4T_HIGHEST : EOQ5T_HIGHEST;
    t->factor  = bits == 2 ? EOQ2T_FACTOR : bits == 3 ? EOQ3T_FACTOR : bits == 4 ? EOQ4T_FACTOR : EOQ5T_FACTOR;
    for (int free_bit = 0; free_bit <= (eoq_has_free_bit(bits) ? 1 : 0); ++free_bit) {
        for (int oldest = 0; oldest < radix; ++oldest) {
            for (int state = 0; state < EOQ_STATES; ++state) {
                // the window has the newest code highest, as the state has it, and the oldest lowest
                const int      window = state << code_bits | oldest;
                // the table that the free bit chooses
                const int8_t * first  = eoq_trellis_first(bits) + 16 * free_bit;
                int            level;
                if (code_bits == 2) {
                    level = first[eoq_trellis_number[window]];
                } else {
                    const int history = (window & 15) ^ eoq_trellis_older(bits)[window >> 4 & 15];
                    level             = first[window >> 8] + eoq_trellis_second(bits)[history];
                    t->by_number[free_bit][history * 16 + (window >> 8)] = (int16_t) (2 * level);
                }
                t->doubled[free_bit][oldest * EOQ_STATES + state] = (int16_t) (2 * level);
            }
        }
    }
}

// ggml's base library is built for every CPU of its architecture: let the loader choose among several versions
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__AVX2__)
#    define EOQ_FOR_SEVERAL_CPUS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#    define EOQ_FOR_SEVERAL_CPUS
#endif

EOQ_INLINE int16_t eoq_squared_miss(int16_t target, int16_t doubled) {
    int16_t miss = (int16_t) (target - doubled);
    miss         = miss < -EOQ_TRELLIS_LARGEST_MISS ? -EOQ_TRELLIS_LARGEST_MISS : miss;
    miss         = miss > EOQ_TRELLIS_LARGEST_MISS ? EOQ_TRELLIS_LARGEST_MISS : miss;
    return (int16_t) (miss * miss);
}

EOQ_INLINE int16_t eoq_lesser(int16_t a, int16_t b) {
    return a < b ? a : b;
}

// by the nearer of a step's two levels, where a free bit chooses between them
EOQ_INLINE int16_t eoq_step_cost(int16_t target, int16_t doubled, int16_t other, bool has_free_bit) {
    const int16_t cost = eoq_squared_miss(target, doubled);
    return has_free_bit ? eoq_lesser(cost, eoq_squared_miss(target, other)) : cost;
}

// costs of a step of codes of 2 bits, by state
EOQ_INLINE void eoq_advance_2(const eoq_trellis * t,
                              int16_t             target,
                              bool                has_free_bit,
                              const int16_t *     from,
                              int16_t *           to) {
    enum { RADIX = 4, NEWER = EOQ_STATES / RADIX };

    int16_t by_oldest[EOQ_STATES];
    int16_t best[EOQ_STATES];
    for (int o = 0; o < RADIX; ++o) {
        for (int q = 0; q < NEWER; ++q) {
            by_oldest[o * NEWER + q] = from[q * RADIX + o];
        }
    }
    for (int s = 0; s < EOQ_STATES; ++s) {
        best[s] = INT16_MAX;
    }
    for (int c = 0; c < RADIX; ++c) {
        for (int o = 0; o < RADIX; ++o) {
            const int16_t * doubled = t->doubled[0] + o * EOQ_STATES + c * NEWER;
            const int16_t * other   = t->doubled[1] + o * EOQ_STATES + c * NEWER;
            for (int q = 0; q < NEWER; ++q) {
                const int16_t step  = eoq_step_cost(target, doubled[q], other[q], has_free_bit);
                const int16_t total = (int16_t) (by_oldest[o * NEWER + q] + step);
                best[c * NEWER + q] = eoq_lesser(total, best[c * NEWER + q]);
            }
        }
    }
    memcpy(to, best, sizeof(best));
}

// A step of codes of 4 bits costs by its own code and by h, the number of what the two before contribute, so that 4096
// steps have 256 costs. These are the costs of the states whose older code is `last`: where it is literal, so are the
// places in `from`.
EOQ_INLINE void eoq_advance_to(int             last,
                               const uint8_t * older,
                               const int16_t * step,
                               const int16_t * from,
                               int16_t *       best) {
    int16_t so_far[16];
    for (int h = 0; h < 16; ++h) {
        so_far[h] = from[(h ^ older[last]) * 16 + last];
    }
    for (int c = 0; c < 16; ++c) {
        int16_t least = INT16_MAX;
        for (int h = 0; h < 16; ++h) {
            least = eoq_lesser(least, (int16_t) (so_far[h] + step[h * 16 + c]));
        }
        best[last * 16 + c] = least;
    }
}

// costs of a step of codes of 4 bits; states stand by their older code first, so that no table is turned about
EOQ_INLINE void eoq_advance_4(const eoq_trellis * t,
                              int                 bits,
                              int16_t             target,
                              bool                has_free_bit,
                              const int16_t *     from,
                              int16_t *           to) {
    const uint8_t * older = eoq_trellis_older(bits);
    int16_t         step[EOQ_STATES];
    int16_t         best[EOQ_STATES];
    for (int i = 0; i < EOQ_STATES; ++i) {
        step[i] = eoq_step_cost(target, t->by_number[0][i], t->by_number[1][i], has_free_bit);
    }
#define EOQ_ADVANCE_TO(last) eoq_advance_to(last, older, step, from, best);
#define EOQ_ADVANCE_TO_4(last) \
    EOQ_ADVANCE_TO(last) EOQ_ADVANCE_TO((last) + 1) EOQ_ADVANCE_TO((last) + 2) EOQ_ADVANCE_TO((last) + 3)
    EOQ_ADVANCE_TO_4(0)
    EOQ_ADVANCE_TO_4(4)
    EOQ_ADVANCE_TO_4(8)
    EOQ_ADVANCE_TO_4(12)
#undef EOQ_ADVANCE_TO_4
#undef EOQ_ADVANCE_TO
    memcpy(to, best, sizeof(best));
}

// where the costs of a step have a state
EOQ_INLINE int eoq_place(int state, int code_bits) {
    return code_bits == 4 ? state % 16 * 16 + state / 16 : state;
}

// section 5.6: targets in half levels, in the order of the chain, to codes
EOQ_INLINE void eoq_cheapest_path(eoq_trellis * t, const int16_t * targets, int width, int bits, uint8_t * codes) {
    const int  code_bits    = eoq_low_plane_bits(bits);
    const int  radix        = 1 << code_bits;
    const int  newer        = EOQ_STATES >> code_bits;
    const bool has_free_bit = eoq_has_free_bit(bits);
    for (int s = 0; s < EOQ_STATES; ++s) {
        t->costs[0][s] = s == 0 ? 0 : EOQ_TRELLIS_LARGEST_COST;
    }
    for (int step = 0; step < width; ++step) {
        int16_t * to = t->costs[step + 1];
        if (code_bits == 2) {
            eoq_advance_2(t, targets[step], has_free_bit, t->costs[step], to);
        } else {
            eoq_advance_4(t, bits, targets[step], has_free_bit, t->costs[step], to);
        }
        int16_t least = INT16_MAX;
        for (int s = 0; s < EOQ_STATES; ++s) {
            least = eoq_lesser(least, to[s]);
        }
        for (int s = 0; s < EOQ_STATES; ++s) {
            to[s] = eoq_lesser((int16_t) (to[s] - least), EOQ_TRELLIS_LARGEST_COST);
        }
    }
    int state = 0;
    for (int s = 1; s < EOQ_STATES; ++s) {
        state = t->costs[width][eoq_place(s, code_bits)] < t->costs[width][eoq_place(state, code_bits)] ? s : state;
    }
    // which code was the oldest is looked up where it matters, on this path alone: of equals the least
    for (int step = width - 1; step >= 0; --step) {
        const int before = state % newer * radix;  // the state before, but for its oldest code
        int       least = 0, oldest = 0;
        for (int o = 0; o < radix; ++o) {
            const int place = o * EOQ_STATES + state;
            const int cost  = t->costs[step][eoq_place(before + o, code_bits)] +
                              eoq_step_cost(targets[step], t->doubled[0][place], t->doubled[1][place], has_free_bit);
            if (o == 0 || cost < least) {
                least  = cost;
                oldest = o;
            }
        }
        codes[step] = (uint8_t) (state / newer);
        state       = before + oldest;
    }
}

#define EOQ_DEFINE_PATH(bits)                                                                                      \
    EOQ_FOR_SEVERAL_CPUS static void eoq_cheapest_path_##bits(eoq_trellis * t, const int16_t * targets, int width, \
                                                              uint8_t * codes) {                                   \
        eoq_cheapest_path(t, targets, width, bits, codes);                                                         \
    }
EOQ_DEFINE_PATH(2)
EOQ_DEFINE_PATH(3)
EOQ_DEFINE_PATH(4)
EOQ_DEFINE_PATH(5)

// position in the block of a code of the chain
static inline int eoq_chain_position(int step, int code_bits, int width) {
    const int fields  = 8 / code_bits;
    const int plane   = code_bits * width / 8;
    const int columns = plane < EOQ_CHAIN_COLUMNS ? plane : EOQ_CHAIN_COLUMNS;
    const int rows    = plane / columns;
    const int byte    = step / fields % rows * columns + step / fields / rows;
    return step % fields * plane + byte;
}

EOQ_INLINE uint16_t eoq_quantize_trellis_block(eoq_trellis * t, int bits, int width, const float * x, uint8_t * qs) {
    const double to_rotated = width * (double) EOQ_LEVEL_UNIT;
    const int    code_bits  = eoq_low_plane_bits(bits);
    const int    plane      = code_bits * width / 8;
    const int    radix      = 1 << code_bits;
    float        v[QK_EOQ_MAX];
    double       terms[QK_EOQ_MAX];
    int16_t      targets[QK_EOQ_MAX];
    uint8_t      codes[QK_EOQ_MAX];
    int8_t       levels[QK_EOQ_MAX];
    memset(qs, 0, (size_t) (bits * width / 8));
    if (!eoq_rotate_weights(x, width, v)) {
        return EOQ_NOT_A_NUMBER;
    }
    for (int i = 0; i < width; ++i) {
        terms[i] = (double) v[i] * (double) v[i];
    }
    const uint16_t d = eoq_scale_to_fp16(sqrt(eoq_sum_by_halves(terms, width) / width) / t->factor / to_rotated);
    if (d == 0) {
        return 0;
    }
    const float inverse = 1.0f / (eoq_scale_to_float(d) * (float) to_rotated);
    const float lowest  = (float) (t->lowest - EOQ_TRELLIS_MARGIN);
    const float highest = (float) (t->highest + EOQ_TRELLIS_MARGIN);
    for (int step = 0; step < width; ++step) {
        float r       = v[eoq_chain_position(step, code_bits, width)] * inverse;
        r             = r < lowest ? lowest : r;
        r             = r > highest ? highest : r;
        targets[step] = (int16_t) rintf(r * 2.0f);
    }
    (bits == 2 ? eoq_cheapest_path_2 :
     bits == 3 ? eoq_cheapest_path_3 :
     bits == 4 ? eoq_cheapest_path_4 :
                 eoq_cheapest_path_5)(t, targets, width, codes);
    int window = 0;
    for (int step = 0; step < width; ++step) {
        const int i = eoq_chain_position(step, code_bits, width);
        qs[i % plane] |= (uint8_t) (codes[step] << (code_bits * (i / plane)));
        // the window of the trellis has the newest code highest: its state and the oldest code
        window = window >> code_bits | codes[step] << 8;
        if (eoq_has_free_bit(bits)) {
            const int place = (window & (radix - 1)) * EOQ_STATES + (window >> code_bits);
            const int near  = abs(targets[step] - t->doubled[0][place]);
            const int far   = abs(targets[step] - t->doubled[1][place]);
            qs[plane + i % (width / 8)] |= (uint8_t) ((far < near) << (i / (width / 8)));
        }
    }
    eoq_trellis_levels(qs, bits, width, levels);
    int32_t squares = 0;
    for (int i = 0; i < width; ++i) {
        squares += levels[i] * levels[i];
        terms[i] = (double) v[i] * (double) levels[i];
    }
    const double along = eoq_sum_by_halves(terms, width);
    if (squares == 0 || !(along > 0.0)) {
        return d;
    }
    const uint16_t fitted = eoq_scale_to_fp16(along / (double) squares / to_rotated);
    if (fitted == 0) {
        memset(qs, 0, (size_t) (bits * width / 8));
    }
    return fitted;
}

EOQ_INLINE void eoq_quantize_trellis_blocks(int bits, int width, const float * x, uint8_t * y, int64_t k) {
    assert(k % width == 0);
    // more than the stack of some threads; without memory all of ggml aborts
    eoq_trellis * t = malloc(sizeof(eoq_trellis));
    if (t == NULL) {
        abort();
    }
    eoq_make_trellis(bits, t);
    for (int64_t i = 0; i < k / width; ++i, y += 2 + bits * width / 8) {
        const uint16_t d = eoq_quantize_trellis_block(t, bits, width, x + i * width, y + 2);
        memcpy(y, &d, sizeof(d));
    }
    free(t);
}

void eoq_quantize_trellis_row(int bits, int width, const float * x, uint8_t * y, int64_t k) {
    // literal bits: loops of known length
    switch (bits) {
        case 2:
            eoq_quantize_trellis_blocks(2, width, x, y, k);
            break;
        case 3:
            eoq_quantize_trellis_blocks(3, width, x, y, k);
            break;
        case 4:
            eoq_quantize_trellis_blocks(4, width, x, y, k);
            break;
        default:
            eoq_quantize_trellis_blocks(5, width, x, y, k);
            break;
    }
}
