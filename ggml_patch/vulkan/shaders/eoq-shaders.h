#pragma once

// EOQ's shaders, as vulkan-shaders-gen.cpp makes them; included there, before process_shaders.

static void eoq_shaders() {
    typedef std::map<std::string, std::string> macros;

    const macros product = {
        { "FLOAT_TYPE", "float" }, { "FLOAT_TYPEV2", "vec2" }, { "B_TYPE", "float" },
        { "B_TYPEV2", "vec2" },    { "B_TYPEV4", "vec4" },     { "D_TYPE", "float" },
    };
    const std::pair<std::string, macros> sums[] = {
        { "", {} },
        { "_subgroup", { { "USE_SUBGROUP_ADD", "1" } } },
        { "_subgroup_no_shmem", { { "USE_SUBGROUP_ADD_NO_SHMEM", "1" } } },
    };
    for (const auto & [suffix, sum] : sums) {
        const macros all = merge_maps(product, sum);
        string_to_spv("mul_mat_vec_eoq" + suffix, "mul_mat_vec_eoq.comp", all);
        string_to_spv("mul_mat_vec_id_eoq" + suffix, "mul_mat_vec_eoq.comp",
                      merge_maps(all, { { "MUL_MAT_ID", "1" } }));
    }
    for (const auto & [suffix, type] : { std::pair{ "f32", "float" }, std::pair{ "f16", "float16_t" } }) {
        const std::string to = suffix;
        string_to_spv("eoq_rotate_" + to, "eoq_rotate.comp", { { "A_TYPE", "float" }, { "D_TYPE", type } });
        string_to_spv("eoq_get_rows_" + to, "eoq_get_rows.comp",
                      { { "A_TYPE", "uint16_t" }, { "B_TYPE", "int" }, { "D_TYPE", type } });
    }
    string_to_spv("eoq_copy_f32", "eoq_copy.comp", { { "A_TYPE", "uint16_t" }, { "D_TYPE", "float" } });
    string_to_spv("eoq_dequantize", "eoq_dequantize.comp", {});
}
