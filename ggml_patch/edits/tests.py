"""llama.cpp's own tests, with the EOQ types in them."""

from collections.abc import Iterable

from eoq_formats.types import WEIGHT_TYPES, WeightType
from ggml_patch.edit import Edit
from ggml_patch.edits.weight_types import each

_BACKEND_OPS = "tests/test-backend-ops.cpp"
_QUANTIZE_FNS = "tests/test-quantize-fns.cpp"

_EVERY_CASE = [t for t in WEIGHT_TYPES if t.bits == 4 and t.name not in ("EOQ4T_128", "EOQ4T_64")]
"""Types that go through all cases of a test; the others through a few."""


def _listed(types: Iterable[WeightType]) -> str:
    return "\n".join(f"    GGML_TYPE_{t.name}," for t in types)


def _with_bits(bits: int) -> str:
    """Whether `type` has this many bits."""
    return " || ".join(f"type == GGML_TYPE_{t.name}" for t in WEIGHT_TYPES if t.bits == bits)


EDITS = [
    Edit(
        path="tests/CMakeLists.txt",
        anchor=r"^llama_build(_and_test)?\(test-backend-ops\.cpp\)$",
        lines="""
add_executable(eoq-lab eoq/eoq-lab.cpp)
target_link_libraries(eoq-lab PRIVATE ggml)
""",
    ),
    Edit(path=_BACKEND_OPS, anchor=r'^#include [<"]ggml\.h[>"]', lines='#include "../ggml/src/ggml-eoq.h"'),
    Edit(
        path=_BACKEND_OPS,
        anchor=r"^    GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16,$",
        within=r"^static const ggml_type all_types\[\] = \{",
        lines=each("    GGML_TYPE_{T},"),
    ),
    Edit(
        path=_BACKEND_OPS,
        anchor=r"^    GGML_TYPE_F32, GGML_TYPE_F16,$",
        within=r"^static const ggml_type base_types\[\] = \{",
        lines=_listed(_EVERY_CASE),
    ),
    Edit(
        path=_BACKEND_OPS,
        anchor=r"^    GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,$",
        within=r"^static const ggml_type other_types\[\] = \{",
        lines=_listed([t for t in WEIGHT_TYPES if t not in _EVERY_CASE]),
    ),
    Edit(
        path=_BACKEND_OPS,
        anchor=r"^    test_cases\.emplace_back\(new test_mul_mat\(GGML_TYPE_Q4_0, GGML_TYPE_F32, 576, 512, 576,",
        where="before",
        lines="""
    // EOQ: row lengths of real models; a token, a short prompt, and one longer than any tile
    for (ggml_type type_a : all_types) {
        for (int64_t k : {576, 896, 960, 2880, 4864}) {
            if (!ggml_is_eoq(type_a) || k % ggml_blck_size(type_a) != 0) {
                continue;
            }
            test_cases.emplace_back(new test_get_rows(type_a, k, 5, 4, 1, 1, false));
            for (int n : {1, 33, 300}) {
                test_cases.emplace_back(new test_mul_mat(type_a, GGML_TYPE_F32, 32, n, k, {1, 1}, {1, 1}));
                test_cases.emplace_back(new test_mul_mat_id(type_a, GGML_TYPE_F32, 4, 2, false, 32, n, k));
            }
        }
    }
""",
    ),
    Edit(
        path=_QUANTIZE_FNS,
        anchor=r"^constexpr float MAX_QUANTIZATION_TOTAL_ERROR_FP4 =",
        lines="""
// the best that 16 levels can do on Gaussian data, which rotation makes of this test's tone:
// sqrt(0.009501 * mean square of the data / number of values)
constexpr float MAX_QUANTIZATION_TOTAL_ERROR_EOQ4 = 0.00216f;
""",
    ),
    Edit(
        path=_QUANTIZE_FNS,
        anchor=r"^ +type == GGML_TYPE_Q2_K +\? MAX_QUANTIZATION_TOTAL_ERROR_2BITS :",
        where="before",
        lines=f"""
{_with_bits(2)} ? MAX_QUANTIZATION_TOTAL_ERROR_2BITS :
{_with_bits(3)} ? MAX_QUANTIZATION_TOTAL_ERROR_3BITS :
{_with_bits(4)} ? MAX_QUANTIZATION_TOTAL_ERROR_EOQ4  :
""",
    ),
    # levels of least squared error are shorter than the data by that error, and so is a product with a similar vector
    Edit(
        path=_QUANTIZE_FNS,
        anchor=r"^ +\? MAX_DOT_PRODUCT_ERROR_LOWBIT$",
        where="before",
        lines="".join(
            f"                || type == GGML_TYPE_{t.name}\n" for t in WEIGHT_TYPES if t.bits == 3 and t.name != "EOQ3"
        ),
    ),
    Edit(
        path=_QUANTIZE_FNS,
        anchor=r"^ +\? MAX_DOT_PRODUCT_ERROR_TERNARY$",
        where="before",
        lines=f"                || {_with_bits(2)}",
    ),
]
