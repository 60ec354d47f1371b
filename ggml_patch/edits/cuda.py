"""The CUDA backend: EOQ in the matrix products of mmvq and mmq, their quantisers, dequantising.

HIP and MUSA compile the same files; there `GGML_EOQ_CUDA_TYPES` is empty, and every operation is denied.
"""

import re
from typing import Any

from ggml_patch.edit import Edit

NEW_MMQ = "ggml/src/ggml-cuda/mmq-config-ampere.cuh"
"""In the versions whose mmq has tables of configurations. Older ones deny the types."""

_FOLDER = "ggml/src/ggml-cuda"


def _edit(file: str, anchor: str, lines: str, **rest: Any) -> Edit:
    return Edit(path=f"{_FOLDER}/{file}", anchor=anchor, lines=lines, when=NEW_MMQ, **rest)


def _cases(statements: str) -> str:
    """A case for each type; the statements may name T, t, code and width."""
    return f"""
#define GGML_EOQ_CASE(T, t, code, width, A, a) case GGML_TYPE_##T: {statements}
        GGML_EOQ_CUDA_TYPES(GGML_EOQ_CASE)
#undef GGML_EOQ_CASE
"""


_BUILD = [
    _edit(
        "CMakeLists.txt",
        r'^    file\(GLOB   GGML_SOURCES_CUDA "\*\.cu"\)$',
        """
    file(GLOB   SRCS "eoq/*.cu")
    list(APPEND GGML_SOURCES_CUDA ${SRCS})
""",
    ),
]

_TRAITS = [
    _edit("common.cuh", r'^#include "ggml-cuda\.h"$', '#include "ggml-eoq.h"'),
    _edit(
        "common.cuh",
        r"^template<>\nstruct ggml_cuda_type_traits<GGML_TYPE_Q1_0> \{$",
        r"""
// a lane of mmvq has 32 codes of a block
#define GGML_EOQ_TRAITS(T, t, code, width, A, a)              \
    template<>                                                \
    struct ggml_cuda_type_traits<GGML_TYPE_##T> {             \
        static constexpr int qk = width;                      \
        static constexpr int qr = 1;                          \
        static constexpr int qi = width / 32;                 \
        static constexpr int bs = sizeof(block_##t);          \
    };
GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_TRAITS)
#undef GGML_EOQ_TRAITS
""",
        where="before",
    ),
]

_QUANTIZE = [
    _edit("quantize.cu", r'^#include "quantize\.cuh"$', '#include "eoq/eoq-cuda.cuh"'),
    *(
        _edit(
            "quantize.cu",
            rf"^    {first_line}$",
            f"""
    if (ggml_cuda_is_eoq(type_src0)) {{
        const eoq_activation_rows rows = {{ {rows} }};
        ggml_cuda_eoq_{function}(rows, {arguments}, stream);
        return;
    }}
""",
            within=rf"^void {function}_cuda\($",
            where="before",
        )
        for function, first_line, rows, arguments in (
            (
                "quantize_row_q8_1",
                r"const uint3 ne2_fastdiv = init_fastdiv_values\(ne2\);",
                "x, ne00, s01, s02, s03, ne0, ne1, ne2, ne3",
                "vy, type_src0",
            ),
            (
                "quantize_mmq_q8_1",
                r"GGML_ASSERT\(ne00 % 4 == 0\);",
                "x, ne00, s01, s02, s03, ne0, ne1, ne2, ne3",
                "ids, vy, type_src0",
            ),
            (
                "quantize_scatter_mmq_q8_1",
                r"GGML_ASSERT\(ne00 % 4 == 0\);",
                "x, ne00, stride_token, 0, 0, ne0, n_tokens, 1, 1",
                "ids_src1_inv, vy, type_src0, nrows_dst, n_expert_used",
            ),
        )
    ),
]


def _rows_inside(kernel: str, rows: str, before: str, y: str) -> list[Edit]:
    """The last block of threads reads no row behind the matrix where there are two rows a block and an odd number."""
    within = rf"^static __global__ void {kernel}\($"
    steps = f"    const uint32_t row_step = ggml_cuda_is_eoq(type) && row0 + 1u >= {rows} ? 0 : stride_row_x;"
    gate = " " * 8 + before.replace("tmp", "tmp_gate")
    edits = [_edit("mmvq.cu", r"^    const int kbx_offset += .*;$", steps, within=within)]
    for weights, left in (("vx", before), ("vgate", gate)):
        call = f"{left}{weights}, &y[{y}], kbx_offset + i*stride_row_x + kbx, kqs);"
        ours = call.replace("i*stride_row_x", "i*row_step")
        edits.append(_edit("mmvq.cu", f"^{re.escape(call)}$", ours, within=within, where="replace"))
    return edits


_MMVQ = [
    _edit(
        "mmvq.cu",
        r'^#include "vecdotq\.cuh"$',
        '#include "eoq/eoq-cuda.cuh"\n#include "eoq/eoq-vecdot.cuh"',
    ),
    _edit(
        "mmvq.cu",
        r"^        case GGML_TYPE_Q1_0: +return vec_dot_q1_0_q8_1;$",
        _cases("return vec_dot_eoq_q8_1<code, width>;"),
        where="before",
    ),
    _edit(
        "mmvq.cu",
        r"^        case GGML_TYPE_Q1_0:$",
        r"""
#define GGML_EOQ_CASE(T, t, code, width, A, a)                                                                   \
        case GGML_TYPE_##T:                                                                                      \
            mul_mat_vec_q_switch_ncols_dst<GGML_TYPE_##T>                                                        \
                (vx, vy, ids, fusion, dst, ncols_x, nrows_x, ncols_dst, stride_row_x, stride_col_y,              \
                 stride_col_dst, nchannels_x, nchannels_y, nchannels_dst, stride_channel_x, stride_channel_y,    \
                 stride_channel_dst, nsamples_x, nsamples_dst, stride_sample_x, stride_sample_y,                 \
                 stride_sample_dst, ids_stride, stream);                                                         \
            break;
        GGML_EOQ_CUDA_TYPES(GGML_EOQ_CASE)
#undef GGML_EOQ_CASE
""",
        within=r"^static void mul_mat_vec_q_switch_type\($",
        where="before",
    ),
    _edit(
        "mmvq.cu",
        r"^    if \(table_id == MMVQ_PARAMETERS_GENERIC\) \{$",
        """
    if (ncols_dst == 1 && ggml_cuda_is_eoq(type)) {
        return ggml_cuda_eoq_mmvq_warps();
    }
""",
        within=r"^static constexpr __host__ __device__ int calc_nwarps\(",
        where="before",
    ),
    _edit(
        "mmvq.cu",
        r"^template <ggml_type type, int ncols_dst, bool has_fusion, bool small_k = false",
        """
static constexpr __host__ __device__ int
calc_rows_per_block(ggml_type type, int ncols_dst, int table_id, bool small_k, int nwarps) {
    return ncols_dst == 1 && ggml_cuda_is_eoq(type) ? ggml_cuda_eoq_mmvq_rows(type)
                                                    : calc_rows_per_block(ncols_dst, table_id, small_k, nwarps);
}

""",
        where="before",
    ),
    *(
        _edit(
            "mmvq.cu",
            rf"^    {left} = calc_rows_per_block\(ncols_dst, table_id, small_k, nwarps\);$",
            f"    {left} = calc_rows_per_block(type, ncols_dst, table_id, small_k, nwarps);",
            where="replace",
        )
        for left in ("constexpr int rows_per_cuda_block", "const int rpb")
    ),
    *_rows_inside("mul_mat_vec_q", "stride_col_dst", " " * 20, "j*stride_col_y + kby"),
    *_rows_inside("mul_mat_vec_q_moe", "nrows_x", " " * 12 + "tmp[i] += vec_dot_q_cuda(", "kby"),
]

_SAME_CONFIG = """
    // the tiles are those of Q8_0, and so is what suits them
    if (ggml_cuda_is_eoq(type)) {{
        ggml_cuda_mmq_config config = ggml_cuda_mmq_get_config(GGML_TYPE_Q8_0, J, fallback, {rest});
        config.type = config.type == GGML_TYPE_Q8_0 ? type : config.type;
        return config;
    }}
"""

_UTIL_FUNCS = r"""
#define GGML_EOQ_CASE(T, t, code, width, A, a)                                                        \
        case GGML_TYPE_##T:                                                                           \
            return ggml_cuda_mmq_util_funcs(                                                          \
                {vdr},                                                                                \
                ggml_cuda_mmq_load_tiles_eoq<GGML_TYPE_##T, J, fallback>,                             \
                {vec_dot},                                                                            \
                ggml_cuda_mmq_write_back_{layout}<type, J, fallback>);
        GGML_EOQ_CUDA_TYPES(GGML_EOQ_CASE)
#undef GGML_EOQ_CASE
"""

_MMQ = [
    _edit("mmq.cuh", r'^#include "common\.cuh"$', '#include "eoq/eoq-cuda.cuh"'),
    _edit(
        "mmq.cuh",
        r"^        case GGML_TYPE_Q1_0:$",
        _cases("return MMQ_Q8_1_DS_LAYOUT_D4;"),
        within=r"^static mmq_q8_1_ds_layout mmq_get_q8_1_ds_layout\(",
        where="before",
    ),
    _edit(
        "mmq.cuh",
        r"^static __host__ ggml_cuda_mmq_config ggml_cuda_mmq_get_config\(.*\{$",
        _SAME_CONFIG.format(rest="cc, prec_src1"),
    ),
    _edit(
        "mmq.cuh",
        r"^static constexpr __device__ ggml_cuda_mmq_config ggml_cuda_mmq_get_config\(.*\{$",
        _SAME_CONFIG.format(rest="prec_src1"),
    ),
    _edit(
        "mmq.cuh",
        r"^        case GGML_TYPE_Q1_0: +return MMQ_DP4A_TXS_Q8_0;$",
        _cases("return MMQ_DP4A_TXS_Q8_0;"),
        where="before",
    ),
    _edit("mmq.cuh", r'^#include "mmq-load-tiles\.cuh"$', '#include "eoq/eoq-load-tiles.cuh"'),
    _edit(
        "mmq.cuh",
        r"^            case GGML_TYPE_Q1_0:$",
        _UTIL_FUNCS.replace("{vdr}", "VDR_Q8_0_Q8_1_MMQ")
        .replace("{vec_dot}", "ggml_cuda_mmq_vec_dot_q8_0_q8_1_dp4a<type, J, fallback>")
        .replace("{layout}", "dp4a"),
        within=r"^static constexpr __device__ ggml_cuda_mmq_util_funcs ggml_cuda_mmq_get_util_funcs\(",
        where="before",
    ),
    _edit(
        "mmq.cuh",
        r"^        case GGML_TYPE_Q1_0:$",
        _UTIL_FUNCS.replace("{vdr}", "-1")
        .replace("{vec_dot}", "ggml_cuda_mmq_vec_dot_q8_0_q8_1_mma<type, J, fallback, MMQ_Q8_1_DS_LAYOUT_D4>")
        .replace("{layout}", "mma"),
        within=r"^static constexpr __device__ ggml_cuda_mmq_util_funcs ggml_cuda_mmq_get_util_funcs\(",
        where="before",
    ),
    _edit(
        "mmq.cuh",
        r"^extern DECL_MMQ_CASE\(GGML_TYPE_Q1_0\);$",
        """
#define GGML_EOQ_EXTERN(T, t, code, width, A, a) extern DECL_MMQ_CASE(GGML_TYPE_##T);
GGML_EOQ_CUDA_TYPES(GGML_EOQ_EXTERN)
#undef GGML_EOQ_EXTERN
""",
        where="before",
    ),
    _edit(
        "mmq.cu",
        r"^        case GGML_TYPE_Q1_0:$",
        _cases("mul_mat_q_case<GGML_TYPE_##T>(ctx, args, stream); break;"),
        within=r"^static void ggml_cuda_mul_mat_q_switch_type\(",
        where="before",
    ),
    _edit(
        "mmq.cu",
        r"^        case GGML_TYPE_Q1_0:$",
        _cases("mmq_supported = true; break;"),
        within=r"^bool ggml_cuda_should_use_mmq\(",
        where="before",
    ),
]

_DEQUANTIZE = [
    _edit("convert.cu", r'^#include "convert\.cuh"$', '#include "eoq/eoq-cuda.cuh"'),
    *(
        _edit(
            "convert.cu",
            rf"^to_{short}_cuda_t ggml_get_to_{short}_cuda\(ggml_type type\) \{{$",
            f"""
    if (ggml_cuda_is_eoq(type)) {{
        return ggml_cuda_eoq_to_{short}(type);
    }}
""",
        )
        for short in ("bf16", "fp16", "fp32")
    ),
    _edit("getrows.cu", r'^#include "getrows\.cuh"$', '#include "eoq/eoq-cuda.cuh"'),
    _edit(
        "getrows.cu",
        r"^    switch \(src0_type\) \{$",
        """
    if (ggml_cuda_is_eoq(src0_type)) {
        const eoq_fetch fetch = { ne00, nb01, nb02, nb03, ne10, ne11, ne12, nb10, nb11, nb12, nb1, nb2, nb3 };
        ggml_cuda_eoq_get_rows(src0_d, src0_type, src1_d, dst_d, fetch, stream);
        return;
    }
""",
        within=r"^static void ggml_cuda_get_rows_switch_src0_type\($",
        where="before",
    ),
    _edit("cpy.cu", r'^#include "cpy\.cuh"$', '#include "eoq/eoq-cuda.cuh"'),
    _edit(
        "cpy.cu",
        r"^    const bool contiguous_srcs = ",
        """
    if (ggml_cuda_is_eoq(src0->type) && src1->type == GGML_TYPE_F32) {
        GGML_ASSERT(ggml_is_contiguous(src0) && ggml_is_contiguous(src1));
        ggml_cuda_eoq_to_fp32(src0->type)(src0->data, (float *) src1->data, ne, main_stream);
        return;
    }
""",
        within=r"^void ggml_cuda_cpy\(",
        where="before",
    ),
]

_SUPPORTS_OP = [
    _edit("ggml-cuda.cu", r'^#include "ggml-cuda/common\.cuh"$', '#include "ggml-cuda/eoq/eoq-cuda.cuh"'),
    _edit(
        "ggml-cuda.cu",
        r"^    switch \(op->op\) \{$",
        """
    if (ggml_op_uses_eoq(op)) {
        return ggml_cuda_eoq_supports_op(op);
    }
""",
        within=r"^static bool ggml_backend_cuda_device_supports_op\(",
        where="before",
    ),
]

EDITS = [*_BUILD, *_TRAITS, *_QUANTIZE, *_MMVQ, *_MMQ, *_DEQUANTIZE, *_SUPPORTS_OP]
