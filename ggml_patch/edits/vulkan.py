"""The Vulkan backend: pipelines for EOQ, and activations rotated into the scratch that it has for converted ones.

Products of few vectors have a shader of their own; those of matrices go through mul_mm's shader for all quantised
types, which learns EOQ's. Devices with NV_cooperative_matrix2 decode to half precision first.
"""

import re
from typing import Any

from ggml_patch.edit import Edit

NEW_VULKAN = "ggml/src/ggml-vulkan/ggml-vulkan-types.h"
"""In the versions whose matrix products have one shader for all quantised types. Older ones deny the types."""

_FOLDER = "ggml/src/ggml-vulkan"
_FIRST_OF_ID = (
    r"^            if \(type == GGML_TYPE_Q4_K \|\| type == GGML_TYPE_Q5_K\) \{$\n"
    r"                continue;\n            \}\n            spec_fn_t qs_id = "
)
"""Of the loop over types for MUL_MAT_ID with NV_cooperative_matrix2."""


def _edit(file: str, anchor: str, lines: str, **rest: Any) -> Edit:
    return Edit(path=f"{_FOLDER}/{file}", anchor=anchor, lines=lines, when=NEW_VULKAN, **rest)


def _backend(anchor: str, lines: str, **rest: Any) -> Edit:
    return _edit("ggml-vulkan.cpp", anchor, lines, **rest)


def _changed(line: str, to: str, within: str) -> Edit:
    """The one line `line` of a function, with `to` in its place."""
    return _backend(f"^{re.escape(line)}$", to, within=within, where="replace")


_SHADERS = [
    _edit(
        "vulkan-shaders/vulkan-shaders-gen.cpp",
        r"^void process_shaders\(\) \{$",
        '#include "eoq-shaders.h"',
        where="before",
    ),
    _edit(
        "vulkan-shaders/vulkan-shaders-gen.cpp",
        r'^    string_to_spv\("get_rows_i32", ',
        "    eoq_shaders();",
        where="before",
    ),
    _edit(
        "vulkan-shaders/mul_mm.comp",
        r"^layout \(constant_id = 12\) const uint MmTypeA = 0;$",
        """
#define EOQ_TYPE MmTypeA
#include "eoq-format.glsl"
""",
    ),
    _edit(
        "vulkan-shaders/mul_mm.comp",
        r"^    switch \(MmTypeA\) \{$",
        """
    if (eoq_bits != 0u) {
        return 4u;
    }
""",
        where="before",
    ),
    _edit(
        "vulkan-shaders/mul_mm.comp",
        r"^layout \(binding = 0\) readonly buffer BUF_Q5_K_P32 .*;$",
        """
layout (binding = 0) readonly buffer BUF_EOQ { uint16_t data[]; } a_eoq;

#define EOQ_DATA(i) uint(a_eoq.data[i])
// the other types have no table
const uint eoq_shared_size = eoq_bits != 0u ? eoq_table_size : 1u;
#define EOQ_SHARED_SIZE eoq_shared_size
#include "eoq.glsl"
""",
    ),
    _edit(
        "vulkan-shaders/mul_mm.comp",
        r"^    init_iq_shmem\(gl_WorkGroupSize\);$",
        """
#ifdef MULMAT_QUANT
    if (eoq_bits != 0u) {
        eoq_init(gl_LocalInvocationID.x, gl_WorkGroupSize.x);
    }
#endif
""",
    ),
    _edit(
        "vulkan-shaders/mul_mm_funcs.glsl",
        r"^    if \(MmTypeA == GGML_TYPE_Q4_0\) \{$",
        """
    if (eoq_bits != 0u) {
        const uint first  = (pos_a + col * p.stride_a / mm_load_vec_a() + row) * mm_load_vec_a();
        const uint k_pair = row * mm_load_vec_a() / 2;
        const FLOAT_TYPEV4 weights = FLOAT_TYPEV4(eoq_rotated_weights(first / eoq_width, first % eoq_width));
        store_a(col, k_pair,     weights.xy);
        store_a(col, k_pair + 1, weights.zw);
        return;
    }
""",
        where="before",
    ),
]

_PIPELINES = [
    _edit(
        "ggml-vulkan-types.h",
        r"^    vk_pipeline pipeline_get_rows_f32\[GGML_TYPE_COUNT\];$",
        """
    // to float32 and to half precision, by the weights' type
    vk_pipeline pipeline_eoq_rotate[2][GGML_TYPE_COUNT];
""",
    ),
    _backend(
        r'^#include "ggml-vulkan-common\.h"$',
        '#include "eoq-vulkan.h"',
    ),
    _backend(
        r"^        GGML_TYPE_Q2_K, GGML_TYPE_Q3_K, .*GGML_TYPE_TQ2_0,$",
        """
#define GGML_EOQ_ENTRY(T, t, code, width, A, a) GGML_TYPE_##T,
        GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_ENTRY)
#undef GGML_EOQ_ENTRY
""",
    ),
    *(
        _backend(
            first,
            """
            // no decoder for NV_cooperative_matrix2: they go to half precision first
            if (ggml_vk_is_eoq(type)) {
                continue;
            }
""",
            where="before",
        )
        for first in (r"^            // regression in unified shader on Ampere$", _FIRST_OF_ID)
    ),
    _backend(
        r"^    // dequant shaders$",
        """
    ggml_vk_eoq_create_pipelines(device, ggml_vk_create_pipeline,
                                 { subgroup_size, use_subgroups, force_subgroup_size, rm_kq });
""",
        where="before",
    ),
    _backend(
        r"^    // Needs to be kept up to date on shader changes$",
        """
    if (ggml_vk_is_eoq(src0_type)) {
        lut_size = 64 * sizeof(float);
    }
""",
        where="before",
        within=r"^static bool ggml_vk_matmul_shmem_support\(.*\{$",
    ),
]

_CHOOSING = [
    *(
        _backend(r"^    switch \((a_)?type\) \{$", "        GGML_EOQ_WEIGHT_CASES:", within=within)
        for within in (
            r"^vk_pipeline ggml_vk_get_to_fp16\(.*\{$",
            r"^static vk_pipeline ggml_vk_get_dequantize_mul_mat_vec\(.*\{$",
            r"^static vk_pipeline ggml_vk_get_dequantize_mul_mat_vec_id\(.*\{$",
        )
    ),
    _backend(
        r"^    if \(to == GGML_TYPE_F32\) \{$",
        """
    if (to == GGML_TYPE_F32 && ggml_vk_is_eoq(src->type)) {
        return ctx->device->pipeline_cpy_quant_f32[src->type];
    }
""",
        where="before",
        within=r"^vk_pipeline ggml_vk_get_cpy_pipeline\(.*\{$",
    ),
]


def _rotated_for_matrices(within: str, mul_mat_id: bool) -> list[Edit]:
    """Activations are converted always, by the rotation, to the type that the kernels take."""
    of_id = ", true" if mul_mat_id else ""
    first = "y_decode_vector_staging" if mul_mat_id else "(ctx->device->coopmat2 && src1->type == GGML_TYPE_F32)"
    staged = "y_staged_dst_ptr" if mul_mat_id else "nullptr"
    chosen = "mmp_map = ggml_vk_get_mul_mat_mat_pipeline_map(ctx, src0->type, "
    rest = f", (ggml_prec)dst->op_params[0]{of_id});"
    return [
        _changed(
            f"    const bool y_non_contig = {first} ||",
            f"""
    const bool eoq = ggml_vk_is_eoq(src0->type);
    const ggml_type eoq_type = ggml_vk_eoq_activation_type(ctx->device, {str(mul_mat_id).lower()});
    const bool y_non_contig = eoq || {first} ||
""",
            within,
        ),
        _changed(
            "    const bool y_f32_kernel = src1->type == GGML_TYPE_F32 && !y_non_contig;",
            """
    const bool y_f32_kernel = eoq ? eoq_type == GGML_TYPE_F32 :
                                    src1->type == GGML_TYPE_F32 && !y_non_contig;
""",
            within,
        ),
        _changed(
            f"        {chosen}y_non_contig ? f16_type : src1->type{rest}",
            f"        {chosen}eoq ? eoq_type : y_non_contig ? f16_type : src1->type{rest}",
            within,
        ),
        _changed(
            f"        to_fp16_vk_1 = ggml_vk_get_cpy_pipeline(ctx, src1, {staged}, f16_type);",
            f"""
        to_fp16_vk_1 = eoq ? ggml_vk_eoq_rotation(ctx->device, src0->type, eoq_type) :
                             ggml_vk_get_cpy_pipeline(ctx, src1, {staged}, f16_type);
""",
            within,
        ),
    ]


def _rotated_for_vectors(within: str) -> list[Edit]:
    """The same in float32."""
    return [
        _changed(
            "    const bool y_non_contig = !ggml_vk_dim01_contiguous(src1);",
            """
    const bool eoq = ggml_vk_is_eoq(src0->type);
    const bool y_non_contig = eoq || !ggml_vk_dim01_contiguous(src1);
""",
            within,
        ),
        _changed(
            "        to_fp16_vk_1 = ggml_vk_get_cpy_pipeline(ctx, src1, nullptr, src1->type);",
            """
        to_fp16_vk_1 = eoq ? ggml_vk_eoq_rotation(ctx->device, src0->type, GGML_TYPE_F32) :
                             ggml_vk_get_cpy_pipeline(ctx, src1, nullptr, src1->type);
""",
            within,
        ),
    ]


_ROTATING = [
    *_rotated_for_matrices(r"^static void ggml_vk_mul_mat_q_f16\(.*\{$", False),
    *_rotated_for_matrices(r"^static void ggml_vk_mul_mat_id_q_f16\(.*\{$", True),
    *_rotated_for_vectors(r"^static void ggml_vk_mul_mat_vec_q_f16\(.*\{$"),
    *_rotated_for_vectors(r"^static void ggml_vk_mul_mat_vec_id_q_f16\(.*\{$"),
]

_SUPPORTS_OP = [
    _backend(
        r"^    switch \(op->op\) \{$",
        """
    if (ggml_op_uses_eoq(op)) {
        return ggml_vk_eoq_supports_op(device, op);
    }
""",
        where="before",
        within=r"^static bool ggml_backend_vk_device_supports_op\(.*\{$",
    ),
]

_OLD_HEADERS = [
    _backend(
        r"^    std::vector<vk::LayerSettingEXT> settings = \{$",
        """
    // headers before 1.3.266, such as Debian 12's, do not have it
#ifdef VK_EXT_layer_settings
""",
        where="before",
    ),
    _backend(
        r"^    vk::InstanceCreateInfo instance_create_info\(.*, &layer_setting_info\);$",
        """
#else
    GGML_UNUSED(enable_best_practice);
    vk::InstanceCreateInfo instance_create_info(vk::InstanceCreateFlags{}, &app_info, layers, extensions);
#endif
""",
    ),
]

EDITS = [*_SHADERS, *_PIPELINES, *_CHOOSING, *_ROTATING, *_SUPPORTS_OP, *_OLD_HEADERS]
