#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct gguf_totals {
    int64_t  tensors = 0;
    uint64_t bytes   = 0;  // of their data
};

// Reads all files of one model with gguf_init_from_file, and all data of their tensors, in pieces, with
// ggml_validate_row_data. Throws std::runtime_error, which names the file, the tensor and what is wrong. Whoever calls
// it silences stderr, to which ggml_validate_row_data prints.
gguf_totals check_ggufs(const std::vector<std::string> & paths, size_t threads);
