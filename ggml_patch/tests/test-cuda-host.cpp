// The device functions of ggml_patch/cuda, compiled for the host: the codes' levels, dot products, the rotation and the
// weights of all ten types against the library, a warp being a loop over its lanes.

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
template <int bits, int width> struct test_block {
    static constexpr int bytes = eoq_layout<bits, width>::block_bytes;
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

    int code(int i) const { return eoq_code(at + 2, i, bits, width); }

    // all codes of the block alike
    void fill(int code) {
        memset(at + 2, 0, bytes - 2);
        constexpr int low_bits = eoq_layout<bits, width>::low_bits, low_bytes = eoq_layout<bits, width>::low_bytes;
        for (int i = 0; i < width; ++i) {
            at[2 + i % low_bytes] |= (uint8_t) ((code & ((1 << low_bits) - 1)) << low_bits * (i / low_bytes));
            for (int bit = low_bits; bit < bits; ++bit) {
                at[2 + low_bytes + (bit - low_bits) * width / 8 + i / 8] |= (uint8_t) ((code >> bit & 1) << i % 8);
            }
        }
    }
};

static const int8_t * level_table(int bits) {
    return bits == 2 ? eoq2_levels :
           bits == 3 ? eoq3_levels :
           bits == 4 ? eoq4_levels :
           bits == 5 ? eoq5_levels :
                       eoq6_levels;
}

static int byte_of(uint32_t word, int i) {
    return (int8_t) (word >> (8 * i));
}

// the lanes of a product have every code once, and its level
template <int bits, int width> static void check_levels(const test_block<bits, width> & block) {
    typedef eoq_layout<bits, width> layout;
    int                             seen[width] = { 0 };
    for (int lane = 0; lane < layout::lanes; ++lane) {
        uint32_t words[layout::lane_words * layout::parts];
        eoq_lane_levels<bits, width>(block.at, lane, words);
        for (int i = 0; i < layout::lane_words; ++i) {
            for (int p = 0; p < layout::parts; ++p) {
                for (int j = 0; j < 4; ++j) {
                    const int at       = eoq_lane_code<bits, width>(lane, i, p) + j;
                    const int expected = level_table(bits)[block.code(at)];
                    const int found    = byte_of(words[i * layout::parts + p], j);
                    seen[at]++;
                    CHECK(found == expected, "eoq%d, %d: level %d is %d, not %d", bits, width, at, found, expected);
                }
            }
        }
    }
    for (int i = 0; i < width; ++i) {
        CHECK(seen[i] == 1, "eoq%d, %d: code %d taken %d times", bits, width, i, seen[i]);
    }
    for (int lane = 0; lane < width / 4; ++lane) {
        const uint32_t word = eoq_four_levels<bits, width>(block.at, lane);
        for (int j = 0; j < 4; ++j) {
            const int expected = level_table(bits)[block.code(4 * lane + j)];
            CHECK(byte_of(word, j) == expected, "eoq%d, %d: four levels of lane %d", bits, width, lane);
        }
    }
}

struct test_activations {
    int8_t values[128];
    float  scales[4];

    uint32_t word(int j) const {
        uint32_t bytes;
        memcpy(&bytes, values + 4 * j, sizeof(bytes));
        return bytes;
    }

    float scale(int j) const { return scales[j]; }
};

// with powers of two for scales every sum of the dot product is exact
template <int bits, int width> static void check_dot(const test_block<bits, width> & block, bool extreme) {
    test_activations y;
    double           expected = 0;
    for (int i = 0; i < 4; ++i) {
        y.scales[i] = ldexpf(1.0f, (int) (random_bits() % 5) - 2);
    }
    for (int i = 0; i < width; ++i) {
        const int level = level_table(bits)[block.code(i)];
        y.values[i]     = extreme ? (level < 0 ? -127 : 127) : (int8_t) ((int) (random_bits() % 255) - 127);
        expected += (double) y.scales[i / 32] * level * y.values[i];
    }
    float sum = 0;
    for (int lane = 0; lane < eoq_layout<bits, width>::lanes; ++lane) {
        sum += eoq_lane_dot<bits, width>(block.at, lane, y);
    }
    CHECK((double) sum == expected, "eoq%d, %d: dot product %.9g, not %.9g", bits, width, (double) sum, expected);
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

template <int width> static void check_rotation() {
    float expected[width], found[width / 4][4];
    for (int i = 0; i < width; ++i) {
        const float x       = ((int32_t) random_bits()) * 0x1p-28f;
        expected[i]         = eoq_sign_is_negative(i) ? -x : x;
        found[i / 4][i % 4] = eoq_lane_signs(i / 4) >> (i % 4) & 1 ? -x : x;
    }
    eoq_transform_f32(expected, width);
    transform<width>(found);
    CHECK(memcmp(expected, found, sizeof(expected)) == 0, "rotation of %d values", width);
}

// the bits of dequantised weights
template <int bits, int width>
static void check_weights(const test_block<bits, width> & block, const float * expected, float d) {
    int32_t v[width / 4][4];
    for (int lane = 0; lane < width / 4; ++lane) {
        const uint32_t word = eoq_four_levels<bits, width>(block.at, lane);
        for (int j = 0; j < 4; ++j) {
            v[lane][j] = byte_of(word, j);
        }
    }
    transform<width>(v);
    float found[width];
    for (int i = 0; i < width; ++i) {
        const bool negative = eoq_lane_signs(i / 4) >> (i % 4) & 1;
        found[i]            = eoq_weight(v[i / 4][i % 4], negative, eoq_block_scale(d));
    }
    CHECK(memcmp(expected, found, sizeof(found)) == 0, "eoq%d, %d: weights", bits, width);
}

static void check_instructions() {
    for (int i = 0; i < 16; ++i) {
        CHECK(eoq_spread((uint32_t) i | 0xABC0u) ==
                  ((i & 1) | (i >> 1 & 1) << 8 | (i >> 2 & 1) << 16 | (uint32_t) (i >> 3 & 1) << 24),
              "bits %d", i);
    }
    CHECK(eoq_byte_perm(0x03020100, 0x07060504, 0x7250) == 0x07020500, "byte_perm");
    CHECK(eoq_byte_perm(0x03020100, 0x07060504, 0x12F8BD) == 0x07000305, "byte_perm ignores the highest bits");
    CHECK(eoq_dp4a(0x80FF7F01, 0x7F810280, 5) == 5 + -128 * 127 + -1 * -127 + 127 * 2 + 1 * -128, "dp4a");
    CHECK(eoq_negate(0x7F01017F, 0x01000100) == 0x8101FF7F, "negate");
}

#define CHECK_TYPE(T, t, bits, width, A, a)                                                     \
    for (int round = 0; round < 40 + (1 << bits); ++round) {                                    \
        test_block<bits, width> block(round % 2 == 0);                                          \
        if (round >= 40) {                                                                      \
            block.fill(round - 40);                                                             \
        }                                                                                       \
        check_levels<bits, width>(block);                                                       \
        check_dot<bits, width>(block, round % 4 < 2);                                           \
        float     weights[width];                                                               \
        block_##t copy;                                                                         \
        memcpy(&copy, block.at, sizeof(copy));                                                  \
        dequantize_row_##t(&copy, weights, width);                                              \
        check_weights<bits, width>(block, weights, eoq_scale_to_float(copy.d));                 \
        static_assert(sizeof(block_##t) == eoq_layout<bits, width>::block_bytes, "block size"); \
    }

int main() {
    check_instructions();
    for (int round = 0; round < 100; ++round) {
        check_rotation<128>();
        check_rotation<64>();
    }
    GGML_EOQ_WEIGHT_TYPES(CHECK_TYPE)
    if (failures == 0) {
        printf("ok\n");
    }
    return failures != 0;
}
