"""ggml itself: enums, type traits, quantising, validation, reading GGUF."""

from ggml_patch.edit import Edit
from ggml_patch.edits.weight_types import TYPE_COUNT, each, each_activation
from ggml_patch.sources import sources_in


def edits() -> list[Edit]:
    """The edits of this layer."""
    return [*_HEADER, *_GGML_C, *_QUANTS, *_GGUF, _cmake()]


_HEADER = [
    Edit(
        path="ggml/include/ggml.h",
        anchor=r"^ +GGML_TYPE_COUNT +=",
        where="replace",
        lines=f"""
        // EOQ: rotated blocks of Lloyd-Max or trellis codes; the ids are far from those of others on purpose
{each("        GGML_TYPE_{T:<9} = {id},")}
{each_activation("        GGML_TYPE_{T:<10} = {id}, // activations only")}
        GGML_TYPE_COUNT   = {TYPE_COUNT},
""",
    ),
    Edit(
        path="ggml/include/ggml.h",
        anchor=r"^ +GGML_FTYPE_MOSTLY_Q1_0 +=",
        lines=each("        GGML_FTYPE_MOSTLY_{T:<9} = {id}, // except 1d tensors"),
    ),
]

_GGML_C = [
    Edit(
        path="ggml/src/ggml.c",
        anchor=r'^#include "ggml-quants\.h"',
        lines='#include "ggml-eoq.h"',
    ),
    Edit(
        path="ggml/src/ggml.c",
        anchor=r"^static const struct ggml_type_traits type_traits\[GGML_TYPE_COUNT\] = \{",
        lines=r"""
#define GGML_EOQ_TRAITS(T, t, code, width, A, a)                                    \
    [GGML_TYPE_##T] = {                                                             \
        .type_name                = #t,                                             \
        .blck_size                = width,                                          \
        .type_size                = sizeof(block_##t),                              \
        .is_quantized             = true,                                           \
        .to_float                 = (ggml_to_float_t) dequantize_row_##t,           \
        .from_float_ref           = (ggml_from_float_t) quantize_row_##t##_ref,     \
    },
    GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_TRAITS)
#undef GGML_EOQ_TRAITS
#define GGML_EOQ_TRAITS(T, t, width)                                                \
    [GGML_TYPE_##T] = {                                                             \
        .type_name                = #t,                                             \
        .blck_size                = width,                                          \
        .type_size                = sizeof(block_##t),                              \
        .is_quantized             = true,                                           \
    },
    GGML_EOQ_ACTIVATION_TYPES(GGML_EOQ_TRAITS)
#undef GGML_EOQ_TRAITS
""",
    ),
    Edit(
        path="ggml/src/ggml.c",
        anchor=r"^ +case GGML_FTYPE_MOSTLY_Q1_0: .*break;",
        lines=r"""
#define GGML_EOQ_CASE(T, t, code, width, A, a) case GGML_FTYPE_MOSTLY_##T: wtype = GGML_TYPE_##T; break;
        GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_CASE)
#undef GGML_EOQ_CASE
""",
    ),
    Edit(
        path="ggml/src/ggml.c",
        anchor=r"^ +case GGML_TYPE_Q1_0: +result = quantize_q1_0 *\(",
        lines=r"""
#define GGML_EOQ_CASE(T, t, code, width, A, a) \
        case GGML_TYPE_##T:                    \
            result = quantize_##t(src + start, (char *) dst + start_row * row_size, nrows, n_per_row, imatrix); break;
        GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_CASE)
#undef GGML_EOQ_CASE
""",
    ),
]

_QUANTS = [
    Edit(
        path="ggml/src/ggml-quants.c",
        anchor=r'^#include "ggml-quants\.h"',
        lines='#include "ggml-eoq.h"',
    ),
    Edit(
        path="ggml/src/ggml-quants.c",
        anchor=r"^    if \(nbytes % ggml_type_size\(type\) != 0\) \{",
        within=r"^bool ggml_validate_row_data\(",
        where="before",
        lines=r"""
    // the table of types has gaps, and a gap has no size to divide by
    if (ggml_type_size(type) == 0) {
        fprintf(stderr, "%s: invalid type %d\n", __func__, type);
        return false;
    }
""",
    ),
    Edit(
        path="ggml/src/ggml-quants.c",
        anchor=r"^        case GGML_TYPE_Q1_0:$",
        within=r"^bool ggml_validate_row_data\(",
        where="before",
        lines=r"""
#define GGML_EOQ_CASE(T, t, code, width, A, a)                    \
        case GGML_TYPE_##T:                                       \
            {                                                     \
                VALIDATE_ROW_DATA_D_F16_IMPL(block_##t, data, nb) \
            } break;
        GGML_EOQ_WEIGHT_TYPES(GGML_EOQ_CASE)
#undef GGML_EOQ_CASE
""",
    ),
]

_GGUF = [
    Edit(
        path="ggml/src/gguf.cpp",
        anchor=r"^ +const size_t +type_size = ggml_type_size\(info\.t\.type\);",
        where="before",
        lines=r"""
            // the table of types has gaps: such an id is no type at all
            if (ggml_type_name(info.t.type) == nullptr) {
                GGML_LOG_ERROR("%s: tensor '%s' has unknown ggml type %d\n", __func__, info.t.name, (int) info.t.type);
                ok = false;
                break;
            }
""",
    ),
]


def _cmake() -> Edit:
    files = sources_in("ggml/src", relative_to="ggml/src")
    return Edit(
        path="ggml/src/CMakeLists.txt",
        anchor=r"^ +ggml-quants\.h$",
        lines="\n".join(f"            {file}" for file in files),
    )
