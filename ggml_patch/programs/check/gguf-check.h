#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

// What is wrong with a file: the file, the tensor, and the fault.
struct invalid_gguf : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct gguf_totals {
    int64_t  tensors = 0;
    uint64_t bytes   = 0;  // of their data
};

// Reads all files of one model with gguf_init_from_file, and all data of their tensors, in pieces, with
// ggml_validate_row_data. Throws invalid_gguf, and other exceptions for what is not the files' fault. Whoever calls it
// silences stderr, to which ggml_validate_row_data prints.
gguf_totals check_ggufs(const std::vector<std::string> & paths, size_t threads);
