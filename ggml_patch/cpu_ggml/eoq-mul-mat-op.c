#include "eoq-mul-mat-op.h"

#include "eoq-mul-mat.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"

enum { MAX_COLUMNS = 256 };

static eoq_mul_mat_fn mul_mat_of(enum ggml_type type) {
    switch (type) {
#define GGML_EOQ_CASE(T, t, bits, width, A, a) \
    case GGML_TYPE_##T:                        \
        return ggml_eoq_mul_mat_##t;
        GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_CASE)
#undef GGML_EOQ_CASE
        default:
            GGML_ABORT("%s is no EOQ weight type", ggml_type_name(type));
    }
}

static size_t activation_row_size(const struct ggml_tensor * src0) {
    return ggml_row_size(ggml_get_type_traits_cpu(src0->type)->vec_dot_type, src0->ne[0]);
}

void ggml_eoq_set_chunks(int64_t nr0, int64_t nr1, int nth, int64_t * nchunk0, int64_t * nchunk1) {
    if (nr1 < EOQ_MANY_FROM) {
        return;
    }
    // rows are decoded once for all columns of a chunk, so it has as many columns as can be
    int64_t columns = MAX_COLUMNS;
    int64_t rows    = 4 * EOQ_TILE_ROWS;
    *nchunk1        = (nr1 + columns - 1) / columns;
    *nchunk0        = (nr0 + rows - 1) / rows;
    while (*nchunk0 * *nchunk1 < 4 * nth && (rows > EOQ_TILE_ROWS || columns > EOQ_TILE_ROWS)) {
        if (rows > EOQ_TILE_ROWS) {
            rows /= 2;
        } else {
            columns /= 2;
        }
        *nchunk1 = (nr1 + columns - 1) / columns;
        *nchunk0 = (nr0 + rows - 1) / rows;
    }
}

void ggml_eoq_mul_mat_chunk(const struct ggml_compute_params * params,
                            struct ggml_tensor *               dst,
                            int64_t                            ir0_start,
                            int64_t                            ir0_end,
                            int64_t                            ir1_start,
                            int64_t                            ir1_end) {
    const struct ggml_tensor * src0 = dst->src[0];
    const struct ggml_tensor * src1 = dst->src[1];

    GGML_TENSOR_BINARY_OP_LOCALS

    GGML_ASSERT(src1->type == GGML_TYPE_F32);
    if (ir0_start >= ir0_end) {
        return;
    }

    const eoq_mul_mat_fn mul_mat  = mul_mat_of(src0->type);
    const size_t         row_size = activation_row_size(src0);

    for (int64_t ir1 = ir1_start; ir1 < ir1_end;) {
        // columns of one batch
        const int64_t i3 = ir1 / (ne12 * ne11);
        const int64_t i2 = ir1 / ne11 % ne12;
        const int64_t i1 = ir1 % ne11;
        int64_t       n  = ne11 - i1;
        n                = n < ir1_end - ir1 ? n : ir1_end - ir1;
        n                = n < MAX_COLUMNS ? n : MAX_COLUMNS;
        const char * x   = (const char *) src0->data + i2 / (ne12 / ne02) * nb02 + i3 / (ne13 / ne03) * nb03;
        char *       z   = (char *) dst->data + i1 * nb1 + i2 * nb2 + i3 * nb3 + ir0_start * nb0;
        const char * y   = (const char *) params->wdata + ir1 * row_size;
        const void * columns[MAX_COLUMNS];
        float *      out[MAX_COLUMNS];
        for (int64_t c = 0; c < n; ++c) {
            columns[c] = y + c * row_size;
            out[c]     = (float *) (z + c * nb1);
        }
        mul_mat(ne00, x + ir0_start * nb01, nb01, ir0_end - ir0_start, columns, out, n);
        ir1 += n;
    }
}

void ggml_eoq_mul_mat_id_chunk(struct ggml_tensor * dst,
                               const void *         weights,
                               const int32_t *      slots,
                               const void *         activations,
                               int64_t              ir0_start,
                               int64_t              ir0_end,
                               int64_t              ir1_start,
                               int64_t              ir1_end) {
    const struct ggml_tensor * src0 = dst->src[0];
    const struct ggml_tensor * src1 = dst->src[1];

    GGML_TENSOR_BINARY_OP_LOCALS

    GGML_ASSERT(src1->type == GGML_TYPE_F32);
    if (ir0_start >= ir0_end) {
        return;
    }

    const eoq_mul_mat_fn mul_mat  = mul_mat_of(src0->type);
    const size_t         row_size = activation_row_size(src0);
    const char *         x        = (const char *) weights + ir0_start * nb01;

    for (int64_t ir1 = ir1_start; ir1 < ir1_end;) {
        const int64_t n = ir1_end - ir1 < MAX_COLUMNS ? ir1_end - ir1 : MAX_COLUMNS;
        const void *  columns[MAX_COLUMNS];
        float *       out[MAX_COLUMNS];
        for (int64_t c = 0; c < n; ++c) {
            const int32_t slot  = slots[2 * (ir1 + c)];
            const int32_t token = slots[2 * (ir1 + c) + 1];
            columns[c]          = (const char *) activations + (slot % ne11 + token * ne11) * row_size;
            out[c]              = (float *) ((char *) dst->data + slot * nb1 + token * nb2 + ir0_start * nb0);
        }
        mul_mat(ne00, x, nb01, ir0_end - ir0_start, columns, out, n);
        ir1 += n;
    }
}
