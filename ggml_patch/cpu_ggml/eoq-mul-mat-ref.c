#include "eoq-mul-mat-ref.h"

#include "ggml-impl.h"

static float dot_f32(const float * a, const float * b, int64_t n) {
    float sum = 0.0f;
    for (int64_t i = 0; i < n; ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

void ggml_compute_forward_mul_mat_eoq_ref(const struct ggml_compute_params * params, struct ggml_tensor * dst) {
    const struct ggml_tensor * src0 = dst->src[0];
    const struct ggml_tensor * src1 = dst->src[1];

    GGML_TENSOR_BINARY_OP_LOCALS

    GGML_ASSERT(src1->type == GGML_TYPE_F32);
    GGML_ASSERT(nb00 == ggml_type_size(src0->type));
    GGML_ASSERT(nb10 == sizeof(float));
    GGML_ASSERT(nb0 == sizeof(float));

    const ggml_to_float_t to_float = ggml_get_type_traits(src0->type)->to_float;
    const int64_t         width    = ggml_blck_size(src0->type);

    // src0 is broadcast over the batches of src1
    const int64_t r2 = ne12 / ne02;
    const int64_t r3 = ne13 / ne03;

    for (int64_t i3 = 0; i3 < ne3; ++i3) {
        for (int64_t i2 = 0; i2 < ne2; ++i2) {
            const char * x = (const char *) src0->data + (i2 / r2) * nb02 + (i3 / r3) * nb03;
            const char * y = (const char *) src1->data + i2 * nb12 + i3 * nb13;
            char *       z = (char *) dst->data + i2 * nb2 + i3 * nb3;

            for (int64_t i0 = params->ith; i0 < ne0; i0 += params->nth) {
                for (int64_t i1 = 0; i1 < ne1; ++i1) {
                    *(float *) (z + i0 * nb0 + i1 * nb1) = 0.0f;
                }
                for (int64_t k = 0; k < ne00; k += width) {
                    float w[QK_EOQ_MAX];
                    to_float(x + i0 * nb01 + k / width * nb00, w, width);

                    for (int64_t i1 = 0; i1 < ne1; ++i1) {
                        *(float *) (z + i0 * nb0 + i1 * nb1) += dot_f32(w, (const float *) (y + i1 * nb11) + k, width);
                    }
                }
            }
        }
    }
}

void ggml_compute_forward_mul_mat_id_eoq_ref(const struct ggml_compute_params * params, struct ggml_tensor * dst) {
    const struct ggml_tensor * src0 = dst->src[0];
    const struct ggml_tensor * src1 = dst->src[1];
    const struct ggml_tensor * ids  = dst->src[2];

    GGML_TENSOR_BINARY_OP_LOCALS

    GGML_ASSERT(src1->type == GGML_TYPE_F32);
    GGML_ASSERT(nb00 == ggml_type_size(src0->type));
    GGML_ASSERT(nb10 == sizeof(float));
    GGML_ASSERT(nb0 == sizeof(float));
    GGML_ASSERT(ne3 == 1);
    GGML_ASSERT(ne03 == 1);
    GGML_ASSERT(ne13 == 1);

    const ggml_to_float_t to_float = ggml_get_type_traits(src0->type)->to_float;
    const int64_t         width    = ggml_blck_size(src0->type);

    for (int64_t i0 = params->ith; i0 < ne0; i0 += params->nth) {
        for (int64_t token = 0; token < ne2; ++token) {
            for (int64_t slot = 0; slot < ne1; ++slot) {
                *(float *) ((char *) dst->data + i0 * nb0 + slot * nb1 + token * nb2) = 0.0f;
            }
        }
        for (int64_t expert = 0; expert < ne02; ++expert) {
            for (int64_t k = 0; k < ne00; k += width) {
                float w[QK_EOQ_MAX];
                to_float((const char *) src0->data + expert * nb02 + i0 * nb01 + k / width * nb00, w, width);

                for (int64_t token = 0; token < ne2; ++token) {
                    for (int64_t slot = 0; slot < ne1; ++slot) {
                        const int32_t id =
                            *(const int32_t *) ((const char *) ids->data + slot * ids->nb[0] + token * ids->nb[1]);
                        if (id != expert) {
                            continue;
                        }
                        const char * y = (const char *) src1->data + (slot % ne11) * nb11 + token * nb12;
                        float *      z = (float *) ((char *) dst->data + i0 * nb0 + slot * nb1 + token * nb2);
                        *z += dot_f32(w, (const float *) y + k, width);
                    }
                }
            }
        }
    }
}
