#pragma once

// What ggml-cuda calls for EOQ tensors outside of its templates. All of it runs on the stream that it is given.

#include "../common.cuh"
#include "../convert.cuh"
#include "ggml-eoq.h"

// HIP and MUSA builds have no EOQ kernels: nobody has run them there, so the types are denied
#if defined(GGML_USE_HIP) || defined(GGML_USE_MUSA)
#    define GGML_EOQ_CUDA_TYPES(X)
#else
#    define GGML_EOQ_CUDA_TYPES(X) GGML_EOQ_WEIGHT_TYPES(X)
#endif

// types of weights with kernels here
static constexpr __host__ __device__ bool ggml_cuda_is_eoq(ggml_type type) {
    switch (type) {
#define EOQ_CASE(T, t, bits, width, A, a) case GGML_TYPE_##T:
        GGML_EOQ_CUDA_TYPES(EOQ_CASE)
#undef EOQ_CASE
        case GGML_TYPE_COUNT:  // a label for builds without any
            return type != GGML_TYPE_COUNT;
        default:
            return false;
    }
}

// whether there is a kernel for an operation that some EOQ tensor takes part in
bool ggml_cuda_eoq_supports_op(const ggml_tensor * op);

// Activations as quantize.cu's functions of the same names have them, but each block of 128 or 64 values (the weight
// type's width) is rotated first, docs/format.md section 6. The source stays as it is. Sums of values are not written.
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
                                     cudaStream_t  stream);
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
                                     cudaStream_t    stream);
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
                                             cudaStream_t    stream);

// unrotated weights of whole rows; nullptr for types of no width
to_fp32_cuda_t ggml_cuda_eoq_to_fp32(ggml_type type);
to_fp16_cuda_t ggml_cuda_eoq_to_fp16(ggml_type type);
to_bf16_cuda_t ggml_cuda_eoq_to_bf16(ggml_type type);

// rows of src0 that src1 names; strides in bytes
template <typename dst_t>
void ggml_cuda_eoq_get_rows(const void *    src0,
                            ggml_type       src0_type,
                            const int32_t * src1,
                            dst_t *         dst,
                            int64_t         ne00,
                            size_t          nb01,
                            size_t          nb02,
                            size_t          nb03,
                            int64_t         ne10,
                            int64_t         ne11,
                            int64_t         ne12,
                            size_t          nb10,
                            size_t          nb11,
                            size_t          nb12,
                            size_t          nb1,
                            size_t          nb2,
                            size_t          nb3,
                            cudaStream_t    stream);
