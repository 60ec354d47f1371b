// The kernels of ggml_patch/cuda on an emulated warp, with the strides and counts that ggml-cuda gives them:
// activations rotated and quantised, rows dequantised and fetched, tiles of mmq. EOQ_MMA_TILES chooses the layout of
// tiles.

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

// Position in a row, of blocks of `width`, of the value that is number `at` of the quantised row.
template <int width> static int64_t position_at(int64_t at) {
    if (width != 256) {
        return at;
    }
    const int slot = (int) (at % 256), i = 16 * (slot / 128) + slot % 128 / 16 + slot / 8 % 2 * 8;
    return at - slot + 4 * i + slot % 8 / 2 + slot % 2 * 128;
}

// 32 values that begin at number `at` of a quantised row; `precision` is that of the scale
template <int width>
static void check_quantized(const std::vector<float> & v, int64_t at, float d, const int8_t * qs, float precision) {
    const int64_t n    = width == 256 ? 256 : 32;
    float         amax = 0;
    for (int64_t i = at / n * n; i < at / n * n + n; ++i) {
        amax = std::max(amax, fabsf(v[i]));
    }
    CHECK(fabsf(d - amax / 127) <= precision * amax / 127, "%d: scale %g for %g", width, (double) d, (double) amax);
    for (int i = 0; i < 32; ++i) {
        const float expected = v[position_at<width>(at + i)];
        CHECK(fabsf(expected - d * qs[i]) <= (0.5001f + 127 * precision) * d, "%d: %d for %g", width, qs[i],
              (double) (expected / d));
    }
}

static constexpr float FP16_PRECISION = 0x1p-11f, FP32_PRECISION = 1e-6f;

// a row of what mmvq reads, as int8 values and a scale for each 32
template <int width> struct q8_1_row {
    std::vector<int8_t> qs;
    std::vector<float>  scales;

    q8_1_row(const block_q8_1 * y, int64_t n) {
        for (int64_t i = 0; i < n / 32; ++i) {
            if constexpr (width == 256) {
                const eoq_q8_256 & block = ((const eoq_q8_256 *) y)[i / 8];
                qs.insert(qs.end(), block.qs + 32 * (i % 8), block.qs + 32 * (i % 8) + 32);
                scales.push_back(eoq_scale_to_float((uint16_t) block.heads[i % 8]));
            } else {
                qs.insert(qs.end(), y[i].qs, y[i].qs + 32);
                scales.push_back(__low2float(y[i].ds));
            }
        }
    }
};

// of a block of threads for 512 values
template <int width> static constexpr uint32_t THREADS = 512 / eoq_thread_values<width>();

// three dimensions of rows that do not lie close together
template <int width> static void test_quantize_row(int64_t ne00, int64_t ne0) {
    const int64_t      ne1 = 3, ne2 = 2, ne3 = 2;
    const int64_t      s01 = ne00 + 4, s02 = s01 * ne1 + 8, s03 = s02 * ne2 + 12;
    std::vector<float> x = random_floats(s03 * ne3);
    std::fill_n(x.begin(), std::min<int64_t>(ne00, width), 0.0f);  // a block of zeros
    const std::vector<float> kept = x;
    std::vector<block_q8_1>  y(ne0 / 32 * ne1 * ne2 * ne3);
    launch({ (uint32_t) (ne0 / 512), (uint32_t) ne1, (uint32_t) (ne2 * ne3) }, { THREADS<width>, 1, 1 }, [&] {
        eoq_quantize_q8_1<width>({ x.data(), ne00, s01, s02, s03, ne0, ne1, ne2, ne3 }, init_fastdiv_values(ne2),
                                 y.data());
    });
    CHECK(x == kept, "the source was changed");
    for (int64_t row = 0; row < ne1 * ne2 * ne3; ++row) {
        const int64_t         i1 = row % ne1, i2 = row / ne1 % ne2, i3 = row / ne1 / ne2;
        const auto            v = rotated<width>(x.data() + i1 * s01 + i2 * s02 + i3 * s03, ne00, ne0);
        const q8_1_row<width> found(y.data() + row * (ne0 / 32), ne0);
        for (int64_t b = 0; b < ne0 / 32; ++b) {
            check_quantized<width>(v, 32 * b, found.scales[b], found.qs.data() + 32 * b, FP16_PRECISION);
        }
    }
    if constexpr (width == 256) {
        for (size_t b = 0; b < y.size() / 8; ++b) {
            const eoq_q8_256 & block = ((const eoq_q8_256 *) y.data())[b];
            for (int lane = 0; lane < 8; ++lane) {
                int sum = 0;
                for (int i = 0; i < 32; ++i) {
                    sum += block.qs[128 * (i / 16) + 16 * lane + i % 16];
                }
                CHECK((int32_t) block.heads[lane] >> 16 == sum, "sum of lane %d", lane);
            }
        }
    }
}

// columns in the order of ids; blocks of 128 values, one column beside the other
template <int width> static void test_quantize_mmq(int64_t ne00, int64_t ne0, bool with_ids) {
    const int64_t               ne1 = 5, ne2 = with_ids ? 1 : 2, s01 = ne00, s02 = ne00 * 7;
    const std::vector<float>    x = random_floats(s02 * ne2);
    const std::vector<int32_t>  ids{ 6, 0, 3, 3, 1 };
    std::vector<block_q8_1_mmq> y(ne0 / 128 * ne1 * ne2);
    launch({ (uint32_t) ne1, (uint32_t) (ne0 / 512), (uint32_t) ne2 }, { THREADS<width>, 1, 1 }, [&] {
        eoq_quantize_mmq_q8_1<width>({ x.data(), ne00, s01, s02, s02, ne0, ne1, ne2, 1 },
                                     with_ids ? ids.data() : nullptr, y.data());
    });
    for (int64_t i2 = 0; i2 < ne2; ++i2) {
        for (int64_t i1 = 0; i1 < ne1; ++i1) {
            const auto v = rotated<width>(x.data() + i2 * s02 + (with_ids ? ids[i1] : i1) * s01, ne00, ne0);
            for (int64_t kb = 0; kb < ne0 / 128; ++kb) {
                const block_q8_1_mmq & block = y[i2 * (ne0 / 128 * ne1) + kb * ne1 + i1];
                for (int part = 0; part < 4; ++part) {
                    check_quantized<width>(v, 128 * kb + 32 * part, block.d4[part], block.qs + 32 * part,
                                           FP32_PRECISION);
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
    launch({ (uint32_t) tokens, (uint32_t) (ne0 / 512), 1 }, { THREADS<width>, 1, 1 }, [&] {
        eoq_quantize_scatter_mmq_q8_1<width>({ x.data(), ne00, ne00, 0, 0, ne0, tokens, 1, 1 }, row_of_slot.data(),
                                             y.data(), rows, used);
    });
    for (int64_t slot = 0; slot < rows; ++slot) {
        const auto v = rotated<width>(x.data() + slot / used * ne00, ne00, ne0);
        for (int64_t kb = 0; kb < ne0 / 128; ++kb) {
            const block_q8_1_mmq & block = y[kb * rows + row_of_slot[slot]];
            for (int part = 0; part < 4; ++part) {
                check_quantized<width>(v, 128 * kb + 32 * part, block.d4[part], block.qs + 32 * part, FP32_PRECISION);
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

template <int code, int width, typename block_t>
static void test_dequantize(void (*reference)(const block_t *, float *, int64_t)) {
    for (const int64_t n : { 1, 9 }) {
        const std::vector<block_t> blocks = random_blocks<block_t>(n);
        std::vector<float>         expected(n * width), found(n * width);
        reference(blocks.data(), expected.data(), n * width);
        launch({ (uint32_t) ((n * width / eoq_group<code, width>::values + 255) / 256), 1, 1 }, { 256, 1, 1 },
               [&] { eoq_dequantize_row<code, width>(blocks.data(), found.data(), n); });
        CHECK(memcmp(expected.data(), found.data(), n * width * sizeof(float)) == 0, "code %d, %d: %d blocks", code,
              width, (int) n);
    }
}

template <int code, int width, typename block_t>
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
        eoq_get_rows<code, width>(blocks.data(), ids.data(), found.data(), fetch);
    });
    for (int64_t i = 0; i < (int64_t) ids.size(); ++i) {
        const int64_t i11 = i / ne10 % ne11, i12 = i / ne10 / ne11;
        reference(blocks.data() + (ids[i] + ne01 * (i11 + ne11 * i12)) * blocks_of_row, expected.data(), ne00);
        CHECK(memcmp(expected.data(), found.data() + i * ne00, ne00 * sizeof(float)) == 0, "code %d, %d: row %d", code,
              width, (int) i);
    }
}

// levels of a block in the order of its activations
template <int code, int width, typename block_t> static std::vector<int8_t> levels_of(const block_t & block) {
    std::vector<int8_t> levels(width), in_order(width);
    eoq_block_levels(block.qs, code, width, levels.data());
    for (int i = 0; i < width; ++i) {
        in_order[i] = levels[position_at<width>(i)];
    }
    return in_order;
}

// a tile of 64 rows and 256 columns: levels and scales where the products of Q8_0 look for them
template <int code, int width, ggml_type type, bool fallback, typename block_t> static void test_tiles(int i_max) {
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
            const int       expected = levels_of<code, width>(block)[i % width];
            const int       found    = (int8_t) (tile[row * qs_stride + i / 4] >> (8 * (i % 4)));
            CHECK(found == expected, "code %d, %d: level %d of row %d is %d, not %d", code, width, i, row, found,
                  expected);
            float scale;
#ifdef EOQ_MMA_TILES
            memcpy(&scale, &tile[row * qs_stride + scales_at + i / 32], sizeof(scale));
#else
            memcpy(&scale, &tile[scales_at + row * (2 * 32 / 8) + row / 4 + i / 32], sizeof(scale));
#endif
            CHECK(scale == eoq_scale_to_float(block.d) * EOQ_LEVEL_UNIT, "code %d, %d: scale of row %d", code, width,
                  row);
        }
    }
}

// The products of mmvq over a row, block by block and lane by lane, with activations as their quantiser leaves them.
// They are the products of the levels and these values, and near those of the weights and the activations.
template <int code, int width, typename block_t>
static void test_product(void (*reference)(const block_t *, float *, int64_t)) {
    const int                  n = 7, ne0 = (n * width + 511) / 512 * 512;
    const std::vector<block_t> blocks = random_blocks<block_t>(n + 2);
    const std::vector<float>   x      = random_floats(n * width);
    std::vector<float>         weights(n * width);
    reference(blocks.data() + 2, weights.data(), n * width);
    std::vector<block_q8_1> y(ne0 / 32);
    launch({ (uint32_t) (ne0 / 512), 1, 1 }, { THREADS<width>, 1, 1 }, [&] {
        eoq_quantize_q8_1<width>({ x.data(), n * width, n * width, n * width, n * width, ne0, 1, 1, 1 },
                                 init_fastdiv_values(1), y.data());
    });
    const q8_1_row<width> row(y.data(), ne0);
    double                expected = 0, truth = 0, energy = 0;
    float                 found = 0;
    for (int b = 0; b < n; ++b) {
        const std::vector<int8_t> levels = levels_of<code, width>(blocks[b + 2]);
        for (int i = 0; i < width; ++i) {
            const int at = b * width + i;
            expected += (double) eoq_scale_to_float(blocks[b + 2].d) * EOQ_LEVEL_UNIT * row.scales[at / 32] *
                        row.qs[at] * levels[i];
            truth += (double) weights[at] * x[at];
            energy += (double) weights[at] * weights[at] * x[at] * x[at];
        }
        for (int lane = 0; lane < width / 32; ++lane) {
            found += vec_dot_eoq_q8_1<code, width>(blocks.data(), y.data() + b * width / 32, b + 2, lane);
        }
    }
    CHECK(fabs(found - expected) <= 1e-5 * sqrt(energy), "code %d, %d: %g, not %g", code, width, (double) found,
          expected);
    CHECK(fabs(found - truth) <= 0.05 * sqrt(energy), "code %d, %d: %g, not %g", code, width, (double) found, truth);
}

#define TEST_TYPE(T, t, code, width, A, a)                        \
    test_dequantize<code, width, block_##t>(dequantize_row_##t);  \
    test_get_rows<code, width, block_##t>(dequantize_row_##t);    \
    test_tiles<code, width, GGML_TYPE_##T, false, block_##t>(63); \
    test_tiles<code, width, GGML_TYPE_##T, true, block_##t>(20);  \
    test_product<code, width, block_##t>(dequantize_row_##t);

int main() {
    test_quantize_row<256>(1280, 1536);
    test_quantize_row<256>(256, 512);
    test_quantize_row<128>(896, 1024);
    test_quantize_row<64>(576, 1024);
    test_quantize_row<64>(64, 512);
    for (const bool with_ids : { false, true }) {
        test_quantize_mmq<256>(768, 1024, with_ids);
        test_quantize_mmq<128>(384, 512, with_ids);
        test_quantize_mmq<64>(960, 1024, with_ids);
    }
    test_quantize_scatter<256>(1280, 1536);
    test_quantize_scatter<128>(640, 1024);
    test_quantize_scatter<64>(64, 512);
    GGML_EOQ_WEIGHT_TYPES(TEST_TYPE)
    if (failures == 0) {
        printf("ok\n");
    }
    return failures != 0;
}
