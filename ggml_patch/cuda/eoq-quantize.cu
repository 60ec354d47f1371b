// Launches the quantisers of activations.

#include "../mmq.cuh"
#include "../quantize.cuh"
#include "eoq-cuda.cuh"
#include "eoq-quantize-kernels.cuh"

#include <type_traits>

// a block of threads has this many values; the length of rows that ggml-cuda gives is a multiple of it
static constexpr int EOQ_QUANTIZE_VALUES = 512;

template <int width> static constexpr int eoq_quantize_threads() {
    return EOQ_QUANTIZE_VALUES / eoq_thread_values<width>();
}

template <int width> using eoq_width = std::integral_constant<int, width>;

// calls `launch` with the width of the type's blocks
template <typename function> static void eoq_with_width(ggml_type type, const function & launch) {
    switch (ggml_blck_size(type)) {
        case QK_EOQ_64:
            launch(eoq_width<QK_EOQ_64>());
            break;
        case QK_EOQ:
            launch(eoq_width<QK_EOQ>());
            break;
        default:
            GGML_ASSERT(ggml_blck_size(type) == QK_EOQ_256);
            launch(eoq_width<QK_EOQ_256>());
    }
}

// four values are loaded at a time
static void eoq_check_rows(const eoq_activation_rows & rows, ggml_type type_src0) {
    GGML_ASSERT(rows.ne00 % ggml_blck_size(type_src0) == 0 && rows.ne0 % EOQ_QUANTIZE_VALUES == 0);
    GGML_ASSERT((uintptr_t) rows.x % sizeof(float4) == 0);
    GGML_ASSERT(rows.s01 % 4 == 0 && rows.s02 % 4 == 0 && rows.s03 % 4 == 0);
}

void ggml_cuda_eoq_quantize_row_q8_1(const eoq_activation_rows & rows,
                                     void *                      vy,
                                     ggml_type                   type_src0,
                                     cudaStream_t                stream) {
    static_assert(sizeof(eoq_q8_256) == 8 * sizeof(block_q8_1), "they take each other's place");
    eoq_check_rows(rows, type_src0);
    const dim3  blocks(rows.ne0 / EOQ_QUANTIZE_VALUES, rows.ne1, rows.ne2 * rows.ne3);
    const uint3 ne2 = init_fastdiv_values(rows.ne2);
    eoq_with_width(type_src0, [&](auto width) {
        const dim3                           threads(eoq_quantize_threads<width>(), 1, 1);
        const ggml_cuda_kernel_launch_params params(blocks, threads, 0, stream);
        ggml_cuda_kernel_launch(eoq_quantize_q8_1<width>, params, rows, ne2, vy);
    });
}

void ggml_cuda_eoq_quantize_mmq_q8_1(const eoq_activation_rows & rows,
                                     const int32_t *             ids,
                                     void *                      vy,
                                     ggml_type                   type_src0,
                                     cudaStream_t                stream) {
    eoq_check_rows(rows, type_src0);
    const dim3 blocks(rows.ne1, rows.ne0 / EOQ_QUANTIZE_VALUES, rows.ne2 * rows.ne3);
    eoq_with_width(type_src0, [&](auto width) {
        eoq_quantize_mmq_q8_1<width><<<blocks, eoq_quantize_threads<width>(), 0, stream>>>(rows, ids, vy);
    });
    CUDA_CHECK(cudaGetLastError());
}

void ggml_cuda_eoq_quantize_scatter_mmq_q8_1(const eoq_activation_rows & rows,
                                             const int32_t *             ids_src1_inv,
                                             void *                      vy,
                                             ggml_type                   type_src0,
                                             int64_t                     nrows_dst,
                                             int                         n_expert_used,
                                             cudaStream_t                stream) {
    eoq_check_rows(rows, type_src0);
    const dim3 blocks(rows.ne1, rows.ne0 / EOQ_QUANTIZE_VALUES, 1);
    eoq_with_width(type_src0, [&](auto width) {
        eoq_quantize_scatter_mmq_q8_1<width>
            <<<blocks, eoq_quantize_threads<width>(), 0, stream>>>(rows, ids_src1_inv, vy, nrows_dst, n_expert_used);
    });
    CUDA_CHECK(cudaGetLastError());
}
