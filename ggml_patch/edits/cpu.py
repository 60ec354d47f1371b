"""The CPU backend: type traits, the switches over types, and the reference for tests."""

from ggml_patch.edit import Edit
from ggml_patch.edits.weight_types import each_activation
from ggml_patch.sources import CPU_FOLDER, sources_in

_OPS_WITH_KERNELS = ("add", "add1", "out_prod", "get_rows")
"""Quantised weights work here, through to_float."""

_OPS_THAT_ABORT = ("acc", "set", "clamp")
"""No quantised type works here; every type is listed all the same."""


def edits() -> list[Edit]:
    """The edits of this layer."""
    return [_cmake(), *_TRAITS, *_MUL_MAT, *_REFERENCE, *_ops()]


def _cmake() -> Edit:
    files = sources_in(CPU_FOLDER, relative_to="ggml/src")
    return Edit(
        path="ggml/src/ggml-cpu/CMakeLists.txt",
        anchor=r"^ +ggml-cpu/ops\.h$",
        lines="\n".join(f"        {file}" for file in files),
    )


_TRAITS = [
    Edit(
        path="ggml/src/ggml-cpu/ggml-cpu.c",
        anchor=r'^#include "quants\.h"',
        lines="""
#include "eoq/eoq-cpu.h"
#include "eoq/eoq-mul-mat-op.h"
#include "eoq/eoq-mul-mat-ref.h"
""",
    ),
    Edit(
        path="ggml/src/ggml-cpu/ggml-cpu.c",
        anchor=r"^static const struct ggml_type_traits_cpu type_traits_cpu\[GGML_TYPE_COUNT\] = \{",
        lines=r"""
#define GGML_EOQ_TRAITS(T, t, code, width, A, a)                       \
    [GGML_TYPE_##T] = {                                                \
        .from_float               = quantize_row_##t,                  \
        .vec_dot                  = ggml_vec_dot_##t##_##a,            \
        .vec_dot_type             = GGML_TYPE_##A,                     \
        .nrows                    = 1,                                 \
    },
    GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_TRAITS)
#undef GGML_EOQ_TRAITS
#define GGML_EOQ_TRAITS(T, t, width)                                   \
    [GGML_TYPE_##T] = {                                                \
        .from_float               = quantize_row_##t,                  \
    },
    GGML_EOQ_ACTIVATION_TYPES(GGML_EOQ_TRAITS)
#undef GGML_EOQ_TRAITS
""",
    ),
]

# several rows by several columns at a time, in place of one dot product after the other
_MUL_MAT = [
    Edit(
        path="ggml/src/ggml-cpu/ggml-cpu.c",
        anchor=r"^    const struct ggml_tensor \* src0 = dst->src\[0\];$",
        within=r"^static void ggml_compute_forward_mul_mat_one_chunk\($",
        lines="""
    if (ggml_is_eoq(src0->type)) {
        ggml_eoq_mul_mat_chunk(params, dst, ir0_start, ir0_end, ir1_start, ir1_end);
        return;
    }
""",
    ),
    Edit(
        path="ggml/src/ggml-cpu/ggml-cpu.c",
        anchor=r"^    GGML_TENSOR_BINARY_OP_LOCALS$",
        within=r"^static void ggml_compute_forward_mul_mat_id_one_chunk\($",
        where="before",
        lines="""
    if (ggml_is_eoq(src0->type)) {
        ggml_eoq_mul_mat_id_chunk(dst, src0_cur, (const int32_t *) &MMID_MATRIX_ROW(cur_a, 0), wdata,
                                  ir0_start, ir0_end, ir1_start, ir1_end);
        return;
    }
""",
    ),
    *(
        Edit(
            path="ggml/src/ggml-cpu/ggml-cpu.c",
            anchor=r"^ +const int64_t dr0 = \(nr0 \+ nchunk0 - 1\) / nchunk0;$",
            within=rf"^(static )?void ggml_compute_forward_{op}\($",
            where="before",
            lines=f"""
{indent}if (ggml_is_eoq(src0->type) && !ggml_is_numa()) {{
{indent}    ggml_eoq_set_chunks(nr0, nr1, nth, &nchunk0, &nchunk1);
{indent}}}
""",
        )
        for op, indent in (("mul_mat", "    "), ("mul_mat_id", "        "))
    ),
]

# test-backend-ops takes its truth from a CPU backend with use_ref; without these the CPU would be compared with itself
_REFERENCE = [
    Edit(
        path="ggml/src/ggml-cpu/ggml-cpu.c",
        anchor=r"^    GGML_TENSOR_BINARY_OP_LOCALS$",
        within=rf"^(static )?void ggml_compute_forward_{op}\($",
        where="before",
        lines=f"""
    if (params->use_ref && ggml_is_eoq(src0->type)) {{
        ggml_compute_forward_{op}_eoq_ref(params, dst);
        return;
    }}
""",
    )
    for op in ("mul_mat", "mul_mat_id")
]


def _ops() -> list[Edit]:
    path = "ggml/src/ggml-cpu/ops.cpp"
    include = Edit(
        path=path, anchor=r'^#include "ggml-impl\.h"', lines='#include "eoq/eoq-to-float.h"\n#include "ggml-eoq.h"'
    )
    # token embeddings stay on the CPU where a GPU has the rest, and one thread gets a prompt's rows
    get_rows = Edit(
        path=path,
        anchor=r"^    ggml_to_float_t const dequantize_row_q = ggml_get_type_traits\(type\)->to_float;$",
        within=r"^static void ggml_compute_forward_get_rows_q\($",
        where="replace",
        lines="    ggml_to_float_t const dequantize_row_q = ggml_eoq_cpu_to_float(params, type);",
    )
    weights = "        GGML_EOQ_WEIGHT_CASES:"
    activations = "\n" + each_activation("        case GGML_TYPE_{T}:")
    return [
        include,
        get_rows,
        *(
            Edit(
                path=path,
                anchor=r"^        case GGML_TYPE_IQ2_S:$",
                within=rf"^void ggml_compute_forward_{op}\($",
                lines=weights if op in _OPS_WITH_KERNELS else weights + activations,
            )
            for op in (*_OPS_WITH_KERNELS, *_OPS_THAT_ABORT)
        ),
    ]
