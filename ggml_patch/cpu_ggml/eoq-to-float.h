#pragma once

// Which function turns a row to floats on this CPU: the fast one, or what ggml's table has. The reference keeps to the latter.

#include "eoq-cpu.h"
#include "ggml-cpu-impl.h"
#include "ggml-eoq.h"
#include "ggml.h"

static inline ggml_to_float_t ggml_eoq_cpu_to_float(const struct ggml_compute_params * params, enum ggml_type type) {
    switch (params->use_ref ? GGML_TYPE_COUNT : type) {
#define GGML_EOQ_CASE(T, t, code, width, A, a) \
    case GGML_TYPE_##T:                        \
        return ggml_eoq_dequantize_row_##t;
        GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_CASE)
#undef GGML_EOQ_CASE
        default:
            return ggml_get_type_traits(type)->to_float;
    }
}
