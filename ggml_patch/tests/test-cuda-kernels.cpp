// The kernels of ggml_patch/cuda on an emulated warp, with the strides and counts that ggml-cuda gives them: activations
// rotated and quantised, rows dequantised and fetched, tiles of mmq. EOQ_MMA_TILES chooses the layout of tiles.

#ifdef EOQ_MMA_TILES
#    define TURING_MMA_AVAILABLE
#endif

#include "check.h"
#include "cuda-emulator.h"
#include "eoq-block.h"
#include "eoq-dequantize-kernels.cuh"
#include "eoq-load-tiles.cuh"
#include "eoq-quantize-kernels.cuh"
#include "eoq-vecdot.cuh"

#include <cstdio>

static uint32_t random_state = 12345;

static uint32_t random_bits() {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

static std::vector<float> random_floats(size_t n) {
    std::vector<float> values(n);
    for (float & value : values) {
        value = (float) ((int) (random_bits() % 2001) - 1000) / 64.0f;
    }
    return values;
}

// a row of activations as the reference rotates it, zeros behind its end
template <int width> static std::vector<float> rotated(const float * x, int64_t ne00, int64_t ne0) {
    std::vector<float> v(ne0, 0.0f);
    for (int64_t i = 0; i < ne00; ++i) {
        v[i] = eoq_sign_is_negative((int) (i % width)) ? -x[i] : x[i];
    }
    for (int64_t i = 0; i < ne0; i += width) {
        eoq_transform_f32(v.data() + i, width);
    }
    return v;
}

static void check_quantized(const float * v, float d, const int8_t * qs, const char * what) {
    float amax = 0;
    for (int i = 0; i < 32; ++i) {
        amax = std::max(amax, fabsf(v[i]));
    }
    CHECK(fabsf(d - amax / 127) <= 1e-6f * amax, "%s: scale %g for %g", what, (double) d, (double) amax);
    for (int i = 0; i < 32; ++i) {
        CHECK(fabsf(v[i] - d * qs[i]) <= 0.5001f * d, "%s: %d for %g", what, qs[i], (double) (v[i] / d));
    }
}

// three dimensions of rows that do not lie close together
template <int width> static void test_quantize_row(int64_t ne00, int64_t ne0) {
    const int64_t      ne1 = 3, ne2 = 2, ne3 = 2;
    const int64_t      s01 = ne00 + 4, s02 = s01 * ne1 + 8, s03 = s02 * ne2 + 12;
    std::vector<float> x = random_floats(s03 * ne3);
    std::fill_n(x.begin(), std::min<int64_t>(ne00, width), 0.0f);  // a block of zeros
    const std::vector<float> kept = x;
    std::vector<block_q8_1>  y(ne0 / 32 * ne1 * ne2 * ne3);
    launch({ (uint32_t) (ne0 / 512), (uint32_t) ne1, (uint32_t) (ne2 * ne3) }, { 128, 1, 1 }, [&] {
        eoq_quantize_q8_1<width>({ x.data(), ne00, s01, s02, s03, ne0, ne1, ne2, ne3 }, init_fastdiv_values(ne2),
                                 y.data());
    });
    CHECK(x == kept, "the source was changed");
    for (int64_t row = 0; row < ne1 * ne2 * ne3; ++row) {
        const int64_t i1 = row % ne1, i2 = row / ne1 % ne2, i3 = row / ne1 / ne2;
        const auto    v = rotated<width>(x.data() + i1 * s01 + i2 * s02 + i3 * s03, ne00, ne0);
        for (int64_t b = 0; b < ne0 / 32; ++b) {
            const block_q8_1 & block = y[row * (ne0 / 32) + b];
            check_quantized(v.data() + 32 * b, block.ds.low, block.qs, "q8_1");
        }
    }
}

// columns in the order of ids; blocks of 128 values, one column beside the other
template <int width> static void test_quantize_mmq(int64_t ne00, int64_t ne0, bool with_ids) {
    const int64_t               ne1 = 5, ne2 = with_ids ? 1 : 2, s01 = ne00, s02 = ne00 * 7;
    const std::vector<float>    x = random_floats(s02 * ne2);
    const std::vector<int32_t>  ids{ 6, 0, 3, 3, 1 };
    std::vector<block_q8_1_mmq> y(ne0 / 128 * ne1 * ne2);
    launch({ (uint32_t) ne1, (uint32_t) (ne0 / 512), (uint32_t) ne2 }, { 128, 1, 1 }, [&] {
        eoq_quantize_mmq_q8_1<width>({ x.data(), ne00, s01, s02, s02, ne0, ne1, ne2, 1 },
                                     with_ids ? ids.data() : nullptr, y.data());
    });
    for (int64_t i2 = 0; i2 < ne2; ++i2) {
        for (int64_t i1 = 0; i1 < ne1; ++i1) {
            const auto v = rotated<width>(x.data() + i2 * s02 + (with_ids ? ids[i1] : i1) * s01, ne00, ne0);
            for (int64_t kb = 0; kb < ne0 / 128; ++kb) {
                const block_q8_1_mmq & block = y[i2 * (ne0 / 128 * ne1) + kb * ne1 + i1];
                for (int part = 0; part < 4; ++part) {
                    check_quantized(v.data() + 128 * kb + 32 * part, block.d4[part], block.qs + 32 * part, "mmq");
                }
            }
        }
    }
}

// tokens whose columns several experts need
template <int width> static void test_quantize_scatter(int64_t ne00, int64_t ne0) {
    const int64_t               tokens = 3, used = 2, rows = tokens * used;
    const std::vector<float>    x = random_floats(ne00 * tokens);
    const std::vector<int32_t>  row_of_slot{ 4, 0, 5, 2, 1, 3 };
    std::vector<block_q8_1_mmq> y(ne0 / 128 * rows);
    launch({ (uint32_t) tokens, (uint32_t) (ne0 / 512), 1 }, { 128, 1, 1 }, [&] {
        eoq_quantize_scatter_mmq_q8_1<width>({ x.data(), ne00, ne00, 0, 0, ne0, tokens, 1, 1 }, row_of_slot.data(),
                                             y.data(), rows, used);
    });
    for (int64_t slot = 0; slot < rows; ++slot) {
        const auto v = rotated<width>(x.data() + slot / used * ne00, ne00, ne0);
        for (int64_t kb = 0; kb < ne0 / 128; ++kb) {
            const block_q8_1_mmq & block = y[kb * rows + row_of_slot[slot]];
            for (int part = 0; part < 4; ++part) {
                check_quantized(v.data() + 128 * kb + 32 * part, block.d4[part], block.qs + 32 * part, "scattered");
            }
        }
    }
}

// Blocks with scales that fp16 has. A last one more than asked for: words are read aligned, up to two bytes further.
template <typename block_t> static std::vector<block_t> random_blocks(int64_t n) {
    std::vector<block_t> blocks(n + 1);
    for (block_t & block : blocks) {
        for (uint8_t & byte : block.qs) {
            byte = (uint8_t) random_bits();
        }
        block.d = (uint16_t) (0x2C00 + random_bits() % 1024);
    }
    return blocks;
}

template <int bits, int width, typename block_t>
static void test_dequantize(void (*reference)(const block_t *, float *, int64_t)) {
    for (const int64_t n : { 1, 9 }) {
        const std::vector<block_t> blocks = random_blocks<block_t>(n);
        std::vector<float>         expected(n * width), found(n * width);
        reference(blocks.data(), expected.data(), n * width);
        launch({ (uint32_t) ((n * width / 4 + 255) / 256), 1, 1 }, { 256, 1, 1 },
               [&] { eoq_dequantize_row<bits, width>(blocks.data(), found.data(), n); });
        CHECK(memcmp(expected.data(), found.data(), n * width * sizeof(float)) == 0, "eoq%d, %d: %d blocks", bits,
              width, (int) n);
    }
}

template <int bits, int width, typename block_t>
static void test_get_rows(void (*reference)(const block_t *, float *, int64_t)) {
    const int64_t              ne01 = 5, blocks_of_row = 5, ne00 = blocks_of_row * width, ne10 = 3, ne11 = 2, ne12 = 2;
    const std::vector<block_t> blocks = random_blocks<block_t>(blocks_of_row * ne01 * ne11 * ne12);
    std::vector<int32_t>       ids(ne10 * ne11 * ne12);
    for (int32_t & id : ids) {
        id = (int32_t) (random_bits() % ne01);
    }
    std::vector<float> found(ne00 * ids.size()), expected(ne00);
    const size_t       nb01 = blocks_of_row * sizeof(block_t), nb02 = nb01 * ne01, nb03 = nb02 * ne11;
    launch({ (uint32_t) ne10, 2, 3 }, { 64, 1, 1 }, [&] {
        const size_t    nb1 = ne00 * sizeof(float), nb10 = sizeof(int32_t);
        const eoq_fetch fetch = { ne00,
                                  nb01,
                                  nb02,
                                  nb03,
                                  ne10,
                                  ne11,
                                  ne12,
                                  nb10,
                                  nb10 * ne10,
                                  nb10 * ne10 * ne11,
                                  nb1,
                                  nb1 * ne10,
                                  nb1 * ne10 * ne11 };
        eoq_get_rows<bits, width>(blocks.data(), ids.data(), found.data(), fetch);
    });
    for (int64_t i = 0; i < (int64_t) ids.size(); ++i) {
        const int64_t i11 = i / ne10 % ne11, i12 = i / ne10 / ne11;
        reference(blocks.data() + (ids[i] + ne01 * (i11 + ne11 * i12)) * blocks_of_row, expected.data(), ne00);
        CHECK(memcmp(expected.data(), found.data() + i * ne00, ne00 * sizeof(float)) == 0, "eoq%d, %d: row %d", bits,
              width, (int) i);
    }
}

static const int8_t * level_table(int bits) {
    const int8_t * tables[] = { eoq2_levels, eoq3_levels, eoq4_levels, eoq5_levels, eoq6_levels };
    return tables[bits - 2];
}

// a tile of 64 rows and 256 columns: levels and scales where the products of Q8_0 look for them
template <int bits, int width, ggml_type type, bool fallback, typename block_t> static void test_tiles(int i_max) {
    constexpr int              rows = 64, blocks_of_row = 256 / width + 3, kbx0 = 2;
    const std::vector<block_t> blocks = random_blocks<block_t>(rows * blocks_of_row);
    std::vector<int>           tile(rows * 128, 0x55555555);
    launch({ 1, 1, 1 }, { 32, 8, 1 }, [&] {
        ggml_cuda_mmq_load_tiles_eoq<type, 8, fallback>((const char *) blocks.data(), tile.data(), kbx0, i_max,
                                                        blocks_of_row);
    });
#ifdef EOQ_MMA_TILES
    const int qs_stride = 2 * 32 + 2 * 32 / 8 + 4, scales_at = 2 * 32;
#else
    const int qs_stride = 2 * 32 + 1, scales_at = mmq_get_dp4a_tile_x_sizes(GGML_TYPE_Q8_0, rows).qs;
#endif
    for (int row = 0; row <= (fallback ? i_max : rows - 1); ++row) {
        for (int i = 0; i < 256; ++i) {
            const block_t & block    = blocks[row * blocks_of_row + kbx0 + i / width];
            const int       expected = level_table(bits)[eoq_code(block.qs, i % width, bits, width)];
            const int       found    = (int8_t) (tile[row * qs_stride + i / 4] >> (8 * (i % 4)));
            CHECK(found == expected, "eoq%d, %d: level %d of row %d is %d, not %d", bits, width, i, row, found,
                  expected);
            float scale;
#ifdef EOQ_MMA_TILES
            memcpy(&scale, &tile[row * qs_stride + scales_at + i / 32], sizeof(scale));
#else
            memcpy(&scale, &tile[scales_at + row * (2 * 32 / 8) + row / 4 + i / 32], sizeof(scale));
#endif
            CHECK(scale == eoq_scale_to_float(block.d) * EOQ_LEVEL_UNIT, "eoq%d, %d: scale of row %d", bits, width,
                  row);
        }
    }
}

// the products of mmvq over a row, block by block and lane by lane
template <int bits, int width, typename block_t> static void test_vec_dot() {
    const int                  n      = 5;
    const std::vector<block_t> blocks = random_blocks<block_t>(n + 2);
    std::vector<block_q8_1>    y(n * width / 32);
    double                     expected = 0;
    for (block_q8_1 & block : y) {
        block.ds = make_half2(ldexpf(1.0f, (int) (random_bits() % 3)), 0.0f);
        for (int8_t & q : block.qs) {
            q = (int8_t) ((int) (random_bits() % 255) - 127);
        }
    }
    float found = 0;
    for (int b = 0; b < n; ++b) {
        const block_t & block = blocks[b + 2];
        for (int i = 0; i < width; ++i) {
            const block_q8_1 & q8 = y[(b * width + i) / 32];
            expected += (double) eoq_scale_to_float(block.d) * EOQ_LEVEL_UNIT * q8.ds.low * q8.qs[i % 32] *
                        level_table(bits)[eoq_code(block.qs, i, bits, width)];
        }
        for (int lane = 0; lane < width / 32; ++lane) {
            found += vec_dot_eoq_q8_1<bits, width>(blocks.data(), y.data() + b * width / 32, b + 2, lane);
        }
    }
    CHECK(fabs(found - expected) <= 1e-5 * fabs(expected) + 1e-2, "eoq%d, %d: %g, not %g", bits, width, (double) found,
          expected);
}

#define TEST_TYPE(T, t, bits, width, A, a)                        \
    test_dequantize<bits, width, block_##t>(dequantize_row_##t);  \
    test_get_rows<bits, width, block_##t>(dequantize_row_##t);    \
    test_tiles<bits, width, GGML_TYPE_##T, false, block_##t>(63); \
    test_tiles<bits, width, GGML_TYPE_##T, true, block_##t>(20);  \
    test_vec_dot<bits, width, block_##t>();

int main() {
    test_quantize_row<128>(896, 1024);
    test_quantize_row<64>(576, 1024);
    test_quantize_row<64>(64, 512);
    for (const bool with_ids : { false, true }) {
        test_quantize_mmq<128>(384, 512, with_ids);
        test_quantize_mmq<64>(960, 1024, with_ids);
    }
    test_quantize_scatter<128>(640, 1024);
    test_quantize_scatter<64>(64, 512);
    GGML_EOQ_WEIGHT_TYPES(TEST_TYPE)
    if (failures == 0) {
        printf("ok\n");
    }
    return failures != 0;
}
