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
static void eoq_check_rows(const float * x, int64_t ne00, int64_t ne0, int64_t s01, int64_t s02, int64_t s03) {
    GGML_ASSERT(ne00 % QK_EOQ_64 == 0 && ne0 % (4 * EOQ_QUANTIZE_THREADS) == 0);
    GGML_ASSERT((uintptr_t) x % sizeof(float4) == 0 && s01 % 4 == 0 && s02 % 4 == 0 && s03 % 4 == 0);
}

void ggml_cuda_eoq_quantize_row_q8_1(const float * x,
                                     void *        vy,
                                     ggml_type     type_src0,
                                     int64_t       ne00,
                                     int64_t       s01,
                                     int64_t       s02,
                                     int64_t       s03,
                                     int64_t       ne0,
                                     int64_t       ne1,
                                     int64_t       ne2,
                                     int64_t       ne3,
                                     cudaStream_t  stream) {
    eoq_check_rows(x, ne00, ne0, s01, s02, s03);
    const dim3                           blocks(ne0 / (4 * EOQ_QUANTIZE_THREADS), ne1, ne2 * ne3);
    const ggml_cuda_kernel_launch_params params(blocks, dim3(EOQ_QUANTIZE_THREADS, 1, 1), 0, stream);
    const uint3                          ne2_fastdiv = init_fastdiv_values(ne2);
    const uint32_t                       columns     = ne1;
    if (eoq_is_narrow(type_src0)) {
        ggml_cuda_kernel_launch(eoq_quantize_q8_1<QK_EOQ_64>, params, x, vy, ne00, s01, s02, s03, ne0, columns,
                                ne2_fastdiv);
    } else {
        ggml_cuda_kernel_launch(eoq_quantize_q8_1<QK_EOQ>, params, x, vy, ne00, s01, s02, s03, ne0, columns,
                                ne2_fastdiv);
    }
}

template <bool scatter>
static void eoq_launch_mmq(const float *   x,
                           const int32_t * ids,
                           void *          vy,
                           ggml_type       type_src0,
                           dim3            blocks,
                           int64_t         ne00,
                           int64_t         s01,
                           int64_t         s02,
                           int64_t         s03,
                           int64_t         ne0,
                           int64_t         ne1,
                           int64_t         ne2,
                           int             n_expert_used,
                           cudaStream_t    stream) {
    eoq_check_rows(x, ne00, ne0, s01, s02, s03);
    if (eoq_is_narrow(type_src0)) {
        eoq_quantize_mmq_q8_1<QK_EOQ_64, scatter><<<blocks, EOQ_QUANTIZE_THREADS, 0, stream>>>(
            x, ids, vy, ne00, s01, s02, s03, ne0, ne1, ne2, n_expert_used);
    } else {
        eoq_quantize_mmq_q8_1<QK_EOQ, scatter><<<blocks, EOQ_QUANTIZE_THREADS, 0, stream>>>(
            x, ids, vy, ne00, s01, s02, s03, ne0, ne1, ne2, n_expert_used);
    }
    CUDA_CHECK(cudaGetLastError());
}

void ggml_cuda_eoq_quantize_mmq_q8_1(const float *   x,
                                     const int32_t * ids,
                                     void *          vy,
                                     ggml_type       type_src0,
                                     int64_t         ne00,
                                     int64_t         s01,
                                     int64_t         s02,
                                     int64_t         s03,
                                     int64_t         ne0,
                                     int64_t         ne1,
                                     int64_t         ne2,
                                     int64_t         ne3,
                                     cudaStream_t    stream) {
    const dim3 blocks(ne1, ne0 / (4 * EOQ_QUANTIZE_THREADS), ne2 * ne3);
    eoq_launch_mmq<false>(x, ids, vy, type_src0, blocks, ne00, s01, s02, s03, ne0, ne1, ne2, 0, stream);
}

void ggml_cuda_eoq_quantize_scatter_mmq_q8_1(const float *   x,
                                             const int32_t * ids_src1_inv,
                                             void *          vy,
                                             ggml_type       type_src0,
                                             int64_t         ne00,
                                             int64_t         stride_token,
                                             int64_t         ne0,
                                             int64_t         n_tokens,
                                             int64_t         nrows_dst,
                                             int             n_expert_used,
                                             cudaStream_t    stream) {
    const dim3 blocks(n_tokens, ne0 / (4 * EOQ_QUANTIZE_THREADS), 1);
    eoq_launch_mmq<true>(x, ids_src1_inv, vy, type_src0, blocks, ne00, 0, stride_token, 0, ne0, nrows_dst, 1,
                         n_expert_used, stream);
}
