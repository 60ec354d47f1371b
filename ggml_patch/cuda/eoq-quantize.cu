// Launches the quantisers of activations.

#include "../mmq.cuh"
#include "../quantize.cuh"
#include "eoq-cuda.cuh"
#include "eoq-quantize-kernels.cuh"

static constexpr int EOQ_QUANTIZE_THREADS = 128;

static bool eoq_is_narrow(ggml_type type) {
    return ggml_blck_size(type) == QK_EOQ_64;
}

// four values are loaded at a time
static void eoq_check_rows(const eoq_activation_rows & rows) {
    GGML_ASSERT(rows.ne00 % QK_EOQ_64 == 0 && rows.ne0 % (4 * EOQ_QUANTIZE_THREADS) == 0);
    GGML_ASSERT((uintptr_t) rows.x % sizeof(float4) == 0);
    GGML_ASSERT(rows.s01 % 4 == 0 && rows.s02 % 4 == 0 && rows.s03 % 4 == 0);
}

void ggml_cuda_eoq_quantize_row_q8_1(const eoq_activation_rows & rows,
                                     void *                      vy,
                                     ggml_type                   type_src0,
                                     cudaStream_t                stream) {
    eoq_check_rows(rows);
    const dim3                           blocks(rows.ne0 / (4 * EOQ_QUANTIZE_THREADS), rows.ne1, rows.ne2 * rows.ne3);
    const ggml_cuda_kernel_launch_params params(blocks, dim3(EOQ_QUANTIZE_THREADS, 1, 1), 0, stream);
    const uint3                          ne2 = init_fastdiv_values(rows.ne2);
    if (eoq_is_narrow(type_src0)) {
        ggml_cuda_kernel_launch(eoq_quantize_q8_1<QK_EOQ_64>, params, rows, ne2, vy);
    } else {
        ggml_cuda_kernel_launch(eoq_quantize_q8_1<QK_EOQ>, params, rows, ne2, vy);
    }
}

void ggml_cuda_eoq_quantize_mmq_q8_1(const eoq_activation_rows & rows,
                                     const int32_t *             ids,
                                     void *                      vy,
                                     ggml_type                   type_src0,
                                     cudaStream_t                stream) {
    eoq_check_rows(rows);
    const dim3 blocks(rows.ne1, rows.ne0 / (4 * EOQ_QUANTIZE_THREADS), rows.ne2 * rows.ne3);
    if (eoq_is_narrow(type_src0)) {
        eoq_quantize_mmq_q8_1<QK_EOQ_64><<<blocks, EOQ_QUANTIZE_THREADS, 0, stream>>>(rows, ids, vy);
    } else {
        eoq_quantize_mmq_q8_1<QK_EOQ><<<blocks, EOQ_QUANTIZE_THREADS, 0, stream>>>(rows, ids, vy);
    }
    CUDA_CHECK(cudaGetLastError());
}

void ggml_cuda_eoq_quantize_scatter_mmq_q8_1(const eoq_activation_rows & rows,
                                             const int32_t *             ids_src1_inv,
                                             void *                      vy,
                                             ggml_type                   type_src0,
                                             int64_t                     nrows_dst,
                                             int                         n_expert_used,
                                             cudaStream_t                stream) {
    eoq_check_rows(rows);
    const dim3 blocks(rows.ne1, rows.ne0 / (4 * EOQ_QUANTIZE_THREADS), 1);
    if (eoq_is_narrow(type_src0)) {
        eoq_quantize_scatter_mmq_q8_1<QK_EOQ_64>
            <<<blocks, EOQ_QUANTIZE_THREADS, 0, stream>>>(rows, ids_src1_inv, vy, nrows_dst, n_expert_used);
    } else {
        eoq_quantize_scatter_mmq_q8_1<QK_EOQ>
            <<<blocks, EOQ_QUANTIZE_THREADS, 0, stream>>>(rows, ids_src1_inv, vy, nrows_dst, n_expert_used);
    }
    CUDA_CHECK(cudaGetLastError());
}
