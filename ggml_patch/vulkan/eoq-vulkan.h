#pragma once

// EOQ in the Vulkan backend: pipelines, and which operations have them. Included in ggml-vulkan.cpp.
//
// Products take activations that are rotated once, in the backend's scratch for converted activations: in float32 or,
// where the kernels of matrix products want it, in half precision. One shader serves all types; a type is a
// specialization constant.

#include "ggml-eoq.h"

#include <array>
#include <cstdint>
#include <vector>

static constexpr ggml_type ggml_vk_eoq_types[] = {
#define GGML_EOQ_ENTRY(T, t, code, width, A, a) GGML_TYPE_##T,
    GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_ENTRY)
#undef GGML_EOQ_ENTRY
};

static bool ggml_vk_is_eoq(ggml_type type) {
    for (const ggml_type ours : ggml_vk_eoq_types) {
        if (type == ours) {
            return true;
        }
    }
    return false;
}

// Type of rotated activations for a product of matrices: what the kernels take that the backend has for this device.
static ggml_type ggml_vk_eoq_activation_type(const vk_device & device, bool mul_mat_id) {
    const bool half =
        device->coopmat2 || (device->coopmat_support && (!mul_mat_id || device->vendor_id == VK_VENDOR_ID_INTEL));
    return half ? GGML_TYPE_F16 : GGML_TYPE_F32;
}

static vk_pipeline ggml_vk_eoq_rotation(const vk_device & device, ggml_type weights, ggml_type to) {
    return device->pipeline_eoq_rotate[to == GGML_TYPE_F16][weights];
}

// What products of few vectors share: workgroups of one subgroup or of four, and how they sum up.
struct ggml_vk_eoq_mat_vec {
    uint32_t subgroup_size;
    bool     use_subgroups;
    uint32_t force_subgroup_size;
    uint32_t rows;
};

// `create` is ggml_vk_create_pipeline of ggml_vk_load_shaders
template <typename create_pipeline>
static void ggml_vk_eoq_create_pipelines(vk_device &                 device,
                                         const create_pipeline &     create,
                                         const ggml_vk_eoq_mat_vec & mat_vec) {
    // by shader_reduction_mode
    const void * const mat_vec_data[]    = { mul_mat_vec_eoq_data, mul_mat_vec_eoq_subgroup_data,
                                             mul_mat_vec_eoq_subgroup_no_shmem_data };
    const uint64_t     mat_vec_len[]     = { mul_mat_vec_eoq_len, mul_mat_vec_eoq_subgroup_len,
                                             mul_mat_vec_eoq_subgroup_no_shmem_len };
    const void * const mat_vec_id_data[] = { mul_mat_vec_id_eoq_data, mul_mat_vec_id_eoq_subgroup_data,
                                             mul_mat_vec_id_eoq_subgroup_no_shmem_data };
    const uint64_t     mat_vec_id_len[]  = { mul_mat_vec_id_eoq_len, mul_mat_vec_id_eoq_subgroup_len,
                                             mul_mat_vec_id_eoq_subgroup_no_shmem_len };

    const uint32_t rows  = mat_vec.rows;
    const uint32_t unary = sizeof(vk_op_unary_push_constants), binary = sizeof(vk_op_binary_push_constants);
    for (const ggml_type type : ggml_vk_eoq_types) {
        const uint32_t spec = (uint32_t) type;
        for (uint32_t w = 0; w < DMMV_WG_SIZE_COUNT; ++w) {
            const uint32_t              threads = mat_vec.subgroup_size * (w == DMMV_WG_SIZE_SUBGROUP ? 1 : 4);
            const shader_reduction_mode mode    = !mat_vec.use_subgroups     ? SHADER_REDUCTION_MODE_SHMEM :
                                                  w == DMMV_WG_SIZE_SUBGROUP ? SHADER_REDUCTION_MODE_SUBGROUP :
                                                                               SHADER_REDUCTION_MODE_HYBRID;
            for (uint32_t columns = 1; columns <= mul_mat_vec_max_cols; ++columns) {
                create(device, device->pipeline_dequant_mul_mat_vec_f32_f32[w][type][columns - 1], "mul_mat_vec_eoq",
                       mat_vec_len[mode], mat_vec_data[mode], "main", 5, sizeof(vk_mat_vec_push_constants),
                       { rows, 1, 1 }, { threads, rows, columns, spec }, 1, true, mat_vec.use_subgroups,
                       mat_vec.force_subgroup_size);
            }
            create(device, device->pipeline_dequant_mul_mat_vec_id_f32[w][type], "mul_mat_vec_id_eoq",
                   mat_vec_id_len[mode], mat_vec_id_data[mode], "main", 6, sizeof(vk_mat_vec_id_push_constants),
                   { rows, 1, 1 }, { threads, rows, 1, spec }, 1, true, mat_vec.use_subgroups,
                   mat_vec.force_subgroup_size);
        }
        create(device, device->pipeline_eoq_rotate[0][type], "eoq_rotate_f32", eoq_rotate_f32_len, eoq_rotate_f32_data,
               "main", 2, unary, { 512, 1, 1 }, { spec }, 1, false, false, 0);
        create(device, device->pipeline_eoq_rotate[1][type], "eoq_rotate_f16", eoq_rotate_f16_len, eoq_rotate_f16_data,
               "main", 2, unary, { 512, 1, 1 }, { spec }, 1, false, false, 0);
        create(device, device->pipeline_get_rows[type], "eoq_get_rows_f16", eoq_get_rows_f16_len, eoq_get_rows_f16_data,
               "main", 3, binary, { 512, 1, 1 }, { 0, spec }, 1, false, false, 0);
        create(device, device->pipeline_get_rows_f32[type], "eoq_get_rows_f32", eoq_get_rows_f32_len,
               eoq_get_rows_f32_data, "main", 3, binary, { 512, 1, 1 }, { 0, spec }, 1, false, false, 0);
        create(device, device->pipeline_cpy_quant_f32[type], "eoq_copy_f32", eoq_copy_f32_len, eoq_copy_f32_data,
               "main", 2, unary, { 512, 1, 1 }, { spec }, 1, false, false, 0);
        create(device, device->pipeline_dequant[type], "eoq_dequantize", eoq_dequantize_len, eoq_dequantize_data,
               "main", 2, 5 * sizeof(uint32_t), { 8192, 1, 1 }, { spec }, 1, false, false, 0);
    }
}

// yes where there is a pipeline
static bool ggml_vk_eoq_supports_op(const vk_device & device, const ggml_tensor * op) {
    const ggml_tensor * a = op->src[0];
    const ggml_tensor * b = op->src[1];
    switch (op->op) {
        // changes nothing but shapes
        case GGML_OP_NONE:
        case GGML_OP_RESHAPE:
        case GGML_OP_VIEW:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE:
            return true;
        case GGML_OP_MUL_MAT:
            return ggml_vk_is_eoq(a->type) && ggml_vk_dim01_contiguous(a) && b->type == GGML_TYPE_F32 &&
                   op->type == GGML_TYPE_F32 && a->ne[3] == b->ne[3];
        case GGML_OP_MUL_MAT_ID:
            return ggml_vk_is_eoq(a->type) && ggml_vk_dim01_contiguous(a) && b->type == GGML_TYPE_F32 &&
                   op->type == GGML_TYPE_F32 && op->src[2]->ne[3] == b->ne[3] &&
                   ggml_get_op_params_i32(op, 3) != GGML_PREC_F32 &&
                   (device->mul_mat_id_s[a->type] || device->mul_mat_id_m[a->type] || device->mul_mat_id_l[a->type]);
        case GGML_OP_GET_ROWS:
            return ggml_vk_is_eoq(a->type) && b->type == GGML_TYPE_I32 &&
                   (op->type == GGML_TYPE_F32 || op->type == GGML_TYPE_F16);
        case GGML_OP_CPY:
        case GGML_OP_DUP:
        case GGML_OP_CONT:
            return ggml_vk_is_eoq(a->type) && (op->type == GGML_TYPE_F32 || op->type == a->type) &&
                   ggml_is_contiguous(a) && ggml_is_contiguous(op);
        default:
            return false;
    }
}
