#pragma once

// mul_mat and mul_mat_id of ggml's CPU backend with weights of the EOQ types: how much work a thread takes at a time, and
// doing it. Quantising src1, waiting for each other and handing out chunks stay ggml's.

#include "ggml-cpu-impl.h"
#include "ggml-eoq.h"
#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

// chunks that nr0 rows by nr1 columns are cut into for nth threads; as they are where nr1 is small
void ggml_eoq_set_chunks(int64_t nr0, int64_t nr1, int nth, int64_t * nchunk0, int64_t * nchunk1);

// rows ir0_start to ir0_end of all batches' columns ir1_start to ir1_end
void ggml_eoq_mul_mat_chunk(const struct ggml_compute_params * params,
                            struct ggml_tensor *               dst,
                            int64_t                            ir0_start,
                            int64_t                            ir0_end,
                            int64_t                            ir1_start,
                            int64_t                            ir1_end);

// the same for one expert: `weights` are its rows, `slots` its pairs of (slot, token), `activations` src1 quantised
void ggml_eoq_mul_mat_id_chunk(struct ggml_tensor * dst,
                               const void *         weights,
                               const int32_t *      slots,
                               const void *         activations,
                               int64_t              ir0_start,
                               int64_t              ir0_end,
                               int64_t              ir1_start,
                               int64_t              ir1_end);

#ifdef __cplusplus
}
#endif
