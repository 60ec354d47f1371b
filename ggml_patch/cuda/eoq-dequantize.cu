// Launches what dequantises, for cuBLAS, get_rows and copies.

#include "eoq-cuda.cuh"
#include "eoq-dequantize-kernels.cuh"

static constexpr int EOQ_DEQUANTIZE_THREADS = 256;

template <int code, int width, typename dst_t>
static void eoq_dequantize_row_cuda(const void * x, dst_t * y, const int64_t k, cudaStream_t stream) {
    if (k == 0) {
        return;
    }
    const int64_t threads = k / eoq_group<code, width>::values;
    const int64_t blocks  = (threads + EOQ_DEQUANTIZE_THREADS - 1) / EOQ_DEQUANTIZE_THREADS;
    eoq_dequantize_row<code, width><<<blocks, EOQ_DEQUANTIZE_THREADS, 0, stream>>>(x, y, k / width);
    CUDA_CHECK(cudaGetLastError());
}

template <typename dst_t>
void ggml_cuda_eoq_get_rows(const void *      src0,
                            ggml_type         src0_type,
                            const int32_t *   src1,
                            dst_t *           dst,
                            const eoq_fetch & fetch,
                            cudaStream_t      stream) {
    GGML_ASSERT(fetch.ne11 * fetch.ne12 <= UINT32_MAX);
    const auto launch = [&](auto kernel, int values) {
        const int64_t pieces = (fetch.ne00 / values + EOQ_DEQUANTIZE_THREADS - 1) / EOQ_DEQUANTIZE_THREADS;
        const dim3    blocks(fetch.ne10, MIN(pieces, UINT16_MAX), MIN(fetch.ne11 * fetch.ne12, UINT16_MAX));
        kernel<<<blocks, EOQ_DEQUANTIZE_THREADS, 0, stream>>>(src0, src1, dst, fetch);
    };
    switch (src0_type) {
#define EOQ_CASE(T, t, code, width, A, a)                                         \
    case GGML_TYPE_##T:                                                           \
        launch(eoq_get_rows<code, width, dst_t>, eoq_group<code, width>::values); \
        break;
        GGML_EOQ_CUDA_TYPES(EOQ_CASE)
#undef EOQ_CASE
        default:
            GGML_ABORT("%s: no kernel for %s", __func__, ggml_type_name(src0_type));
    }
    CUDA_CHECK(cudaGetLastError());
}

#define EOQ_INSTANCE(dst_t)                                                                                           \
    template void ggml_cuda_eoq_get_rows<dst_t>(const void *, ggml_type, const int32_t *, dst_t *, const eoq_fetch &, \
                                                cudaStream_t);
EOQ_INSTANCE(float)
EOQ_INSTANCE(half)
EOQ_INSTANCE(nv_bfloat16)
EOQ_INSTANCE(int32_t)
#undef EOQ_INSTANCE

template <typename dst_t> static auto eoq_to(ggml_type type) -> void (*)(const void *, dst_t *, int64_t, cudaStream_t) {
    switch (type) {
#define EOQ_CASE(T, t, code, width, A, a) \
    case GGML_TYPE_##T:                   \
        return eoq_dequantize_row_cuda<code, width, dst_t>;
        GGML_EOQ_CUDA_TYPES(EOQ_CASE)
#undef EOQ_CASE
        default:
            return nullptr;
    }
}

to_fp32_cuda_t ggml_cuda_eoq_to_fp32(ggml_type type) {
    return eoq_to<float>(type);
}

to_fp16_cuda_t ggml_cuda_eoq_to_fp16(ggml_type type) {
    return eoq_to<half>(type);
}

to_bf16_cuda_t ggml_cuda_eoq_to_bf16(ggml_type type) {
    return eoq_to<nv_bfloat16>(type);
}
