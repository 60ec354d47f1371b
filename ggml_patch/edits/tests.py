"""llama.cpp's own tests, with the EOQ types in them."""

from ggml_patch.edit import Edit

_BACKEND_OPS = "tests/test-backend-ops.cpp"
_QUANTIZE_FNS = "tests/test-quantize-fns.cpp"

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
        lines="""
    GGML_TYPE_EOQ2, GGML_TYPE_EOQ3, GGML_TYPE_EOQ4, GGML_TYPE_EOQ5, GGML_TYPE_EOQ6,
    GGML_TYPE_EOQ2_64, GGML_TYPE_EOQ3_64, GGML_TYPE_EOQ4_64, GGML_TYPE_EOQ5_64, GGML_TYPE_EOQ6_64,
""",
    ),
    Edit(
        path=_BACKEND_OPS,
        anchor=r"^    GGML_TYPE_F32, GGML_TYPE_F16,$",
        within=r"^static const ggml_type base_types\[\] = \{",
        lines="    GGML_TYPE_EOQ4, GGML_TYPE_EOQ4_64,",
    ),
    Edit(
        path=_BACKEND_OPS,
        anchor=r"^    GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,$",
        within=r"^static const ggml_type other_types\[\] = \{",
        lines="""
    GGML_TYPE_EOQ2, GGML_TYPE_EOQ3, GGML_TYPE_EOQ5, GGML_TYPE_EOQ6,
    GGML_TYPE_EOQ2_64, GGML_TYPE_EOQ3_64, GGML_TYPE_EOQ5_64, GGML_TYPE_EOQ6_64,
""",
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
        lines="""
                type == GGML_TYPE_EOQ2 || type == GGML_TYPE_EOQ2_64 ? MAX_QUANTIZATION_TOTAL_ERROR_2BITS :
                type == GGML_TYPE_EOQ3 || type == GGML_TYPE_EOQ3_64 ? MAX_QUANTIZATION_TOTAL_ERROR_3BITS :
                type == GGML_TYPE_EOQ4 || type == GGML_TYPE_EOQ4_64 ? MAX_QUANTIZATION_TOTAL_ERROR_EOQ4  :
""",
    ),
    # levels of least squared error are shorter than the data by that error, and so is a product with a similar vector
    Edit(
        path=_QUANTIZE_FNS,
        anchor=r"^ +\? MAX_DOT_PRODUCT_ERROR_LOWBIT$",
        where="before",
        lines="                || type == GGML_TYPE_EOQ3_64",
    ),
    Edit(
        path=_QUANTIZE_FNS,
        anchor=r"^ +\? MAX_DOT_PRODUCT_ERROR_TERNARY$",
        where="before",
        lines="                || type == GGML_TYPE_EOQ2 || type == GGML_TYPE_EOQ2_64",
    ),
]
