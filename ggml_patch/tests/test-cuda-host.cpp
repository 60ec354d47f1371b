// The device functions of ggml_patch/cuda, compiled for the host: the codes' levels, dot products, the rotation and the
// weights of all types against the library, a warp being a loop over its lanes.

#include "check.h"
#include "eoq-block.h"
#include "eoq-device.cuh"
#include "ggml-eoq.h"

#include <cmath>
#include <cstdio>
#include <vector>

static uint64_t random_state = 88172645463325252u;

static uint32_t random_bits() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t) (random_state >> 16);
}

// a block at an address that is 2 more than a multiple of 4 or, if `aligned`, a multiple of it; nothing lies behind the
// aligned word of its last byte
template <int code, int width> struct test_block {
    static constexpr int bytes = eoq_block_shape<code, width>::block_bytes;
    std::vector<uint8_t> memory;
    uint8_t *            at;

    explicit test_block(bool aligned)
        : memory((bytes + (aligned ? 0 : 2) + 3) / 4 * 4), at(memory.data() + (aligned ? 0 : 2)) {
        for (int i = 2; i < bytes; ++i) {
            at[i] = (uint8_t) random_bits();
        }
        const uint16_t scale = 0x2E66;  // about 0.1
        memcpy(at, &scale, sizeof(scale));
    }

    std::vector<int8_t> levels() const {
        std::vector<int8_t> found(width);
        eoq_block_levels(at + 2, code, width, found.data());
        return found;
    }

    // all codes of the block alike, signs too
    void fill(int value) {
        memset(at + 2, 0, bytes - 2);
        constexpr int bits = EOQ_BITS(code), low_bits = bits < 4 ? 2 : 4, low_bytes = low_bits * width / 8;
        for (int i = 0; i < width; ++i) {
            at[2 + i % low_bytes] |= (uint8_t) ((value & ((1 << low_bits) - 1)) << low_bits * (i / low_bytes));
            for (int bit = low_bits; bit < bits; ++bit) {
                at[2 + low_bytes + (bit - low_bits) * width / 8 + i / 8] |= (uint8_t) ((value >> bit & 1) << i % 8);
            }
        }
    }
};

static int byte_of(uint32_t word, int i) {
    return (int8_t) (word >> (8 * i));
}

// position in the block of the value that the activations of a product have at `at`
template <int code, int width> static int position_at(int at) {
    if (!EOQ_IS_TRELLIS(code) || width != 256) {
        return at;
    }
    for (int i = 0; i < 32; ++i) {
        const int within = at - eoq_pair_slot(i);
        if (within >= 0 && within < 8) {
            return within % 2 * 128 + 4 * i + within / 2;
        }
    }
    return -1;
}

// the lanes of a product have every code once, and its level
template <int code, int width> static void check_levels(const test_block<code, width> & block) {
    const std::vector<int8_t> expected    = block.levels();
    int                       seen[width] = { 0 };
    for (int lane = 0; lane < eoq_block_shape<code, width>::lanes; ++lane) {
        uint32_t words[8];
        eoq_lane_levels<code, width>(block.at, lane, words);
        for (int i = 0; i < 8; ++i) {
            for (int j = 0; j < 4; ++j) {
                const int at    = position_at<code, width>(4 * eoq_lane_word<code, width>(lane, i) + j);
                const int found = byte_of(words[i], j);
                seen[at]++;
                CHECK(found == expected[at], "code %d, %d: level %d is %d, not %d", code, width, at, found,
                      expected[at]);
            }
        }
    }
    for (int i = 0; i < width; ++i) {
        CHECK(seen[i] == 1, "code %d, %d: code %d taken %d times", code, width, i, seen[i]);
    }
    typedef eoq_group<code, width> group;
    for (int lane = 0; lane < group::lanes; ++lane) {
        uint32_t words[2];
        eoq_group_levels<code, width>(block.at, lane, words);
        for (int i = 0; i < group::values; ++i) {
            const int at = i / 4 * (width / 2) + 4 * lane + i % 4;
            CHECK(byte_of(words[i / 4], i % 4) == expected[at], "code %d, %d: group's levels of lane %d", code, width,
                  lane);
        }
    }
}

struct test_activations {
    int8_t values[256];
    float  scales[8];

    uint32_t word(int j) const {
        uint32_t bytes;
        memcpy(&bytes, values + 4 * j, sizeof(bytes));
        return bytes;
    }

    float scale(int j) const { return scales[j]; }
};

// with powers of two for scales every sum of the dot product is exact
template <int code, int width> static void check_dot(const test_block<code, width> & block, bool extreme) {
    const std::vector<int8_t> levels = block.levels();
    test_activations          y;
    double                    expected = 0;
    for (int i = 0; i < 8; ++i) {
        y.scales[i] = width == 256 ? 1.0f : ldexpf(1.0f, (int) (random_bits() % 5) - 2);
    }
    for (int i = 0; i < width; ++i) {
        const int level = levels[position_at<code, width>(i)];
        y.values[i]     = extreme ? (level < 0 ? -127 : 127) : (int8_t) ((int) (random_bits() % 255) - 127);
        expected += (double) y.scales[i / 32] * level * y.values[i];
    }
    double sum = 0;
    for (int lane = 0; lane < eoq_block_shape<code, width>::lanes; ++lane) {
        if constexpr (width == 256) {
            uint32_t words[8];
            int32_t  total = 0;
            for (int i = 0; i < 8; ++i) {
                words[i] = y.word(eoq_lane_word<code, width>(lane, i));
                total    = eoq_dp4a(0x01010101, words[i], total);
            }
            sum += eoq_lane_dot_256<code>(block.at, lane, words, total);
        } else {
            sum += eoq_lane_dot<code, width>(block.at, lane, y);
        }
    }
    CHECK(sum == expected, "code %d, %d: dot product %.9g, not %.9g", code, width, sum, expected);
}

// The numbers and histories by words against the tables, for every window: bytes of a word are independent.
static void check_digits() {
    for (uint32_t window = 0; window < 0x10000; ++window) {
        const uint32_t others = random_bits(), at = 8 * (window % 4);
        const uint32_t mask   = 0xFFu << at;
        const uint32_t before = (others & ~mask) | (window & 0xFF) << at;
        const uint32_t own    = (random_bits() & ~mask) | (window >> 8) << at;
        uint32_t       numbers[2];
        eoq_trellis_numbers(own, before, &numbers[0], &numbers[1]);
        for (int field = 0; field < 4; ++field) {
            const uint32_t found = numbers[field % 2] >> (at + 4 * (field / 2)) & 15;
            CHECK(found == eoq_trellis_number[window >> (2 * field) & 0x3FF], "number of %x, code %d", window, field);
        }
        for (int field = 0; field < 2; ++field) {
            const uint32_t bits12 = window >> (4 * field), c2 = bits12 & 15, c1 = bits12 >> 4 & 15;
            CHECK((eoq_trellis_history<4>(own, before) >> (at + 4 * field) & 15) == (c2 ^ eoq4t_older[c1]), "4: %x",
                  window);
            CHECK((eoq_trellis_history<5>(own, before) >> (at + 4 * field) & 15) == (c2 ^ eoq5t_older[c1]), "5: %x",
                  window);
        }
    }
}

// the transform by the lanes of a group, as eoq-warp.cuh has it
template <int width, typename number> static void transform(number (*v)[4]) {
    constexpr int lanes = width / 4;
    for (int lane = 0; lane < lanes; ++lane) {
        eoq_butterflies_in_lane(v[lane]);
    }
    for (int distance = 1; distance < lanes; distance *= 2) {
        number next[lanes][4];
        for (int lane = 0; lane < lanes; ++lane) {
            for (int i = 0; i < 4; ++i) {
                next[lane][i] = eoq_butterfly(v[lane][i], v[lane ^ distance][i], lane, distance);
            }
        }
        memcpy(v, next, sizeof(next));
    }
}

// four values a lane of groups of 32 lanes, as with blocks of 256, or of fewer
static uint32_t signs_of_four(int i) {
    return i < 32 ? eoq_lane_signs<0>(i) : eoq_lane_signs<1>(i);
}

template <int width> static void check_rotation() {
    float expected[width], found[width / 4][4];
    for (int i = 0; i < width; ++i) {
        const float x       = ((int32_t) random_bits()) * 0x1p-28f;
        expected[i]         = eoq_sign_is_negative(i) ? -x : x;
        found[i / 4][i % 4] = signs_of_four(i / 4) >> (i % 4) & 1 ? -x : x;
    }
    eoq_transform_f32(expected, width);
    transform<width>(found);
    CHECK(memcmp(expected, found, sizeof(expected)) == 0, "rotation of %d values", width);
}

// the bits of dequantised weights
template <int code, int width>
static void check_weights(const test_block<code, width> & block, const float * expected, float d) {
    typedef eoq_group<code, width> group;
    int32_t                        v[width / 4][4];
    for (int lane = 0; lane < group::lanes; ++lane) {
        uint32_t words[2];
        eoq_group_levels<code, width>(block.at, lane, words);
        for (int i = 0; i < group::values; ++i) {
            v[i / 4 * (width / 8) + lane][i % 4] = byte_of(words[i / 4], i % 4);
        }
    }
    transform<width>(v);
    float found[width];
    for (int i = 0; i < width; ++i) {
        const bool negative = signs_of_four(i / 4) >> (i % 4) & 1;
        found[i]            = eoq_weight(v[i / 4][i % 4], negative, eoq_block_scale(d));
    }
    CHECK(memcmp(expected, found, sizeof(found)) == 0, "code %d, %d: weights", code, width);
}

static void check_instructions() {
    for (int i = 0; i < 16; ++i) {
        CHECK(eoq_spread((uint32_t) i | 0xABC0u) ==
                  ((i & 1) | (i >> 1 & 1) << 8 | (i >> 2 & 1) << 16 | (uint32_t) (i >> 3 & 1) << 24),
              "bits %d", i);
    }
    CHECK(eoq_byte_perm(0x03020100, 0x07060504, 0x7250) == 0x07020500, "byte_perm");
    CHECK(eoq_byte_perm(0x03020100, 0x07060504, 0x12F8BD) == 0x07000305, "byte_perm ignores the highest bits");
    CHECK(eoq_permute(0x03020180, 0x8706057F, 0x7F8C) == 0x87FFFF00, "permute");
    CHECK(eoq_blend(0x12345678, 0x9ABCDEF0, 0xFF00F00F) == 0x12BC5EF8, "blend");
    CHECK(eoq_dp4a(0x80FF7F01, 0x7F810280, 5) == 5 + -128 * 127 + -1 * -127 + 127 * 2 + 1 * -128, "dp4a");
    CHECK(eoq_negate(0x7F01017F, 0x01000100) == 0x8101FF7F, "negate");
}

#define CHECK_TYPE(T, t, code, width, A, a)                                                          \
    for (int round = 0; round < 40 + (1 << EOQ_BITS(code)); ++round) {                               \
        test_block<code, width> block(round % 2 == 0);                                               \
        if (round >= 40) {                                                                           \
            block.fill(round - 40);                                                                  \
        }                                                                                            \
        check_levels<code, width>(block);                                                            \
        check_dot<code, width>(block, round % 4 < 2);                                                \
        float     weights[width];                                                                    \
        block_##t copy;                                                                              \
        memcpy(&copy, block.at, sizeof(copy));                                                       \
        dequantize_row_##t(&copy, weights, width);                                                   \
        check_weights<code, width>(block, weights, eoq_scale_to_float(copy.d));                      \
        static_assert(sizeof(block_##t) == eoq_block_shape<code, width>::block_bytes, "block size"); \
    }

int main() {
    check_instructions();
    check_digits();
    for (int round = 0; round < 100; ++round) {
        check_rotation<256>();
        check_rotation<128>();
        check_rotation<64>();
    }
    GGML_EOQ_WEIGHT_TYPES(CHECK_TYPE)
    if (failures == 0) {
        printf("ok\n");
    }
    return failures != 0;
}
