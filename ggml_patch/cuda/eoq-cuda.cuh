#pragma once

// What ggml-cuda calls for EOQ tensors outside of its templates. All of it runs on the stream that it is given.

#include "../common.cuh"
#include "../convert.cuh"
#include "eoq-arguments.cuh"
#include "ggml-eoq.h"

// HIP and MUSA builds have no EOQ kernels: nobody has run them there, so the types are denied
#if defined(GGML_USE_HIP) || defined(GGML_USE_MUSA)
#    define GGML_EOQ_CUDA_TYPES(X)
#else
#    define GGML_EOQ_CUDA_TYPES(X) GGML_EOQ_WEIGHT_TYPES(X)
#endif

// the code of a type with kernels here, 0 for all other types
static constexpr __host__ __device__ int ggml_cuda_eoq_code(ggml_type type) {
    switch (type) {
#define EOQ_CASE(T, t, code, width, A, a) \
    case GGML_TYPE_##T:                   \
        return code;
        GGML_EOQ_CUDA_TYPES(EOQ_CASE)
#undef EOQ_CASE
        default:
            return 0;
    }
}

static constexpr __host__ __device__ bool ggml_cuda_is_eoq(ggml_type type) {
    return ggml_cuda_eoq_code(type) != 0;
}

// Shape of a block of threads of mmvq for one column: loads of two rows in flight beside one another hide more of the
// memory's latency than more warps, but levels of 6 bits leave no registers for a second row.
static constexpr __host__ __device__ int ggml_cuda_eoq_mmvq_warps() {
    return 2;
}

static constexpr __host__ __device__ int ggml_cuda_eoq_mmvq_rows(ggml_type type) {
    return ggml_cuda_eoq_code(type) == 6 ? 1 : 2;
}

// whether there is a kernel for an operation that some EOQ tensor takes part in
bool ggml_cuda_eoq_supports_op(const ggml_tensor * op);

// Activations as quantize.cu's functions of the same names have them, but each block of 256, 128 or 64 values (the
// weight type's width) is rotated first, docs/format.md section 6, and those of 256 are in the order of eoq_q8_256.
// The source stays as it is. Sums of values are written with blocks of 256 alone.
void ggml_cuda_eoq_quantize_row_q8_1(const eoq_activation_rows & rows,
                                     void *                      vy,
                                     ggml_type                   type_src0,
                                     cudaStream_t                stream);
void ggml_cuda_eoq_quantize_mmq_q8_1(const eoq_activation_rows & rows,
                                     const int32_t *             ids,
                                     void *                      vy,
                                     ggml_type                   type_src0,
                                     cudaStream_t                stream);
// a token's row (rows.ne1 of them, s01 apart) goes to the n_expert_used of nrows_dst rows that ids_src1_inv names
void ggml_cuda_eoq_quantize_scatter_mmq_q8_1(const eoq_activation_rows & rows,
                                             const int32_t *             ids_src1_inv,
                                             void *                      vy,
                                             ggml_type                   type_src0,
                                             int64_t                     nrows_dst,
                                             int                         n_expert_used,
                                             cudaStream_t                stream);

// unrotated weights of whole rows; nullptr for types of no width
to_fp32_cuda_t ggml_cuda_eoq_to_fp32(ggml_type type);
to_fp16_cuda_t ggml_cuda_eoq_to_fp16(ggml_type type);
to_bf16_cuda_t ggml_cuda_eoq_to_bf16(ggml_type type);

// rows of src0 that src1 names
template <typename dst_t>
void ggml_cuda_eoq_get_rows(const void *      src0,
                            ggml_type         src0_type,
                            const int32_t *   src1,
                            dst_t *           dst,
                            const eoq_fetch & fetch,
                            cudaStream_t      stream);
