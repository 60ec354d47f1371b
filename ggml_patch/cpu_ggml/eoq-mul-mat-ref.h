#pragma once

// Reference MUL_MAT and MUL_MAT_ID of the EOQ types: unrotated float weights times float activations.
// The CPU backend runs them with use_ref only: test-backend-ops takes its truth from there.

#include "ggml-cpu-impl.h"
#include "ggml-eoq.h"

#ifdef __cplusplus
extern "C" {
#endif

void ggml_compute_forward_mul_mat_eoq_ref(const struct ggml_compute_params * params, struct ggml_tensor * dst);
void ggml_compute_forward_mul_mat_id_eoq_ref(const struct ggml_compute_params * params, struct ggml_tensor * dst);

#ifdef __cplusplus
}
#endif
