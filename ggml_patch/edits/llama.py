"""libllama and llama-quantize: file types, what each tensor is quantised to, options. And the log of all programs."""

from eoq_formats.types import ACTIVATION_TYPES
from ggml_patch.edit import Edit
from ggml_patch.edits.weight_types import each

_IS_ACTIVATION = " || ".join(f"type == GGML_TYPE_{t.name}" for t in ACTIVATION_TYPES)

_API = [
    Edit(
        path="include/llama.h",
        anchor=r"^ +LLAMA_FTYPE_MOSTLY_Q1_0 +=",
        lines=each("        LLAMA_FTYPE_MOSTLY_{T:<13} = {id}, // except 1d tensors"),
    ),
]

_LOADER = [
    Edit(
        path="src/llama-model-loader.cpp",
        anchor=r"^        case LLAMA_FTYPE_MOSTLY_Q1_0: ",
        lines=each('        case LLAMA_FTYPE_MOSTLY_{T}: name = LLAMA_FTYPE_PREFIX "{T} - {bpw} bpw"; break;'),
    ),
    Edit(
        path="src/llama-model-loader.cpp",
        anchor=r"^            case GGML_TYPE_Q1_0: ",
        lines=each("            case GGML_TYPE_{T}: ftype = LLAMA_FTYPE_MOSTLY_{T}; break;"),
    ),
    Edit(
        path="src/llama-model-loader.cpp",
        anchor=r"^            enum ggml_type type = tensor->type;",
        lines=f"""
            if ({_IS_ACTIVATION}) {{
                throw std::runtime_error(format("tensor '%s' has type %s, which is for activations and never in a file",
                        ggml_get_name(tensor), ggml_type_name(type)));
            }}
""",
    ),
]

_QUANT = [
    Edit(
        path="src/llama-quant.cpp",
        anchor=r'^#include "llama-model-loader\.h"',
        lines='#include "../ggml/src/ggml-eoq.h"',
    ),
    Edit(
        path="src/llama-quant.cpp",
        anchor=r"^// incompatible tensor shapes are handled here - fallback to a compatible type",
        where="before",
        lines="""
// the form of an EOQ type for rows of ncols: narrower where only a narrower block divides them
static ggml_type eoq_type_for_row(ggml_type type, int64_t ncols) {
    if (type >= GGML_TYPE_EOQ2 && type <= GGML_TYPE_EOQ6 && ncols % QK_EOQ != 0 && ncols % QK_EOQ_64 == 0) {
        return (ggml_type) (type + (GGML_TYPE_EOQ2_64 - GGML_TYPE_EOQ2));
    }
    if (type >= GGML_TYPE_EOQ2T && type <= GGML_TYPE_EOQ5T && ncols % QK_EOQ_256 != 0) {
        if (ncols % QK_EOQ == 0) {
            return (ggml_type) (type + (GGML_TYPE_EOQ2T_128 - GGML_TYPE_EOQ2T));
        }
        if (ncols % QK_EOQ_64 == 0) {
            return (ggml_type) (type + (GGML_TYPE_EOQ2T_64 - GGML_TYPE_EOQ2T));
        }
    }
    return type;
}

""",
    ),
    Edit(
        path="src/llama-quant.cpp",
        anchor=r"^    ggml_type return_type = target_type;",
        where="before",
        lines="""
    // the other width is the same quality: no fallback, no warning
    if (const ggml_type eoq_type = eoq_type_for_row(target_type, t->ne[0]); eoq_type != target_type) {
        return eoq_type;
    }

""",
    ),
    Edit(
        path="src/llama-quant.cpp",
        anchor=r"^            case GGML_TYPE_Q6_K: +return_type = GGML_TYPE_Q8_0; +break;",
        lines="            GGML_EOQ_WEIGHT_CASES:  return_type = GGML_TYPE_Q8_0;   break;",
    ),
    Edit(
        path="src/llama-quant.cpp",
        anchor=r"^    // for arches that share the same tensor between the token embeddings and the output,",
        where="before",
        lines="""
    // EOQ: the output matrix gets 6 bits unless told otherwise, everything else the bits that were asked for
    if (ggml_is_eoq(new_type)) {
        if (category != tensor_category::OUTPUT && !(qs.has_tied_embeddings && name == "token_embd.weight")) {
            return new_type;
        }
        if (qs.params->output_tensor_type < GGML_TYPE_COUNT) {
            return qs.params->output_tensor_type;
        }
        const bool narrow = ggml_blck_size(new_type) == QK_EOQ_64;
        return narrow ? GGML_TYPE_EOQ6_64 : eoq_type_for_row(GGML_TYPE_EOQ6, tensor->ne[0]);
    }

""",
    ),
    *(
        Edit(
            path="src/llama-quant.cpp",
            anchor=rf"^ +return params->{option};",
            within=r"^static ggml_type llama_tensor_get_type\(",
            where="before",
            lines=f"""
        if (ggml_is_eoq(params->{option})) {{
            return tensor_type_fallback(qs, tensor, params->{option});
        }}
""",
        )
        for option in ("token_embedding_type", "output_tensor_type")
    ),
    Edit(
        path="src/llama-quant.cpp",
        anchor=r"^        case LLAMA_FTYPE_MOSTLY_Q1_0: return GGML_TYPE_Q1_0;",
        lines=each("        case LLAMA_FTYPE_MOSTLY_{T}: return GGML_TYPE_{T};"),
    ),
]

_TOOL = [
    Edit(
        path="tools/quantize/quantize.cpp",
        anchor=r'^    \{ "Q1_0", +LLAMA_FTYPE_MOSTLY_Q1_0,',
        where="before",
        lines=each('    {{ "{T}", LLAMA_FTYPE_MOSTLY_{T}, " {bpw} bpw, rotated blocks of {width}", }},'),
    ),
    Edit(
        path="tools/quantize/quantize.cpp",
        anchor=r"^        if \(name && striequals\(name, arg\)\) \{",
        within=r"^static ggml_type parse_ggml_type\(",
        where="before",
        lines=f"""
        if ({_IS_ACTIVATION}) {{
            continue; // activations only
        }}
""",
    ),
]

_LOG = [
    Edit(
        path="common/log.cpp",
        anchor=r"^        log->set_colors\(tty_can_use_colors\(\)\);$",
        within=r"^struct common_log \* common_log_main\(\) \{$",
        lines="""
#if !defined(_WIN32)
        // a program that ends leaves behind what its log's thread has not printed yet, such as a measurement's result
        std::atexit([]() { common_log_flush(common_log_main()); });
#endif
""",
    ),
]

EDITS = [*_API, *_LOADER, *_QUANT, *_TOOL, *_LOG]
