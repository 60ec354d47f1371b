#include "moment-file.h"

#include "ggml-cpp.h"
#include "gguf.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>

// Version of the contents, which converter/statistics/moments_file.py reads.
static const uint64_t VERSION = 2;

static int64_t packed_length(int64_t n) {
    return n * (n + 1) / 2;
}

static std::string list_of_inputs(const std::vector<moment_input> & inputs) {
    auto list = nlohmann::json::array();
    for (const moment_input & input : inputs) {
        list.push_back({ { "key", input.key },
                         { "row_length", input.n },
                         { "experts", input.experts },
                         { "shared", input.shared },
                         { "tensors", input.tensors } });
    }
    return list.dump();
}

static void add_tensor(gguf_context * gguf, const std::string & name, ggml_type type, int64_t ne0, int64_t ne1) {
    ggml_context_ptr context(ggml_init({ ggml_tensor_overhead(), nullptr, /*no_alloc*/ true }));
    ggml_tensor *    tensor = ggml_new_tensor_2d(context.get(), type, ne0, ne1);
    if (name.size() >= GGML_MAX_NAME) {
        throw std::runtime_error("the name " + name + " is too long for a GGUF");
    }
    ggml_set_name(tensor, name.c_str());
    gguf_add_tensor(gguf, tensor);
}

moment_file::moment_file(const std::string &               path,
                         const moment_head &               head,
                         const std::vector<moment_input> & inputs,
                         int64_t                           written)
    : path(path), partial(path + ".part") {
    gguf_context_ptr gguf(gguf_init_empty());
    gguf_set_val_str(gguf.get(), "general.type", "eoq-statistics");
    gguf_set_val_u64(gguf.get(), "eoq.statistics.version", VERSION);
    gguf_set_val_str(gguf.get(), "eoq.statistics.fingerprint", head.fingerprint.c_str());
    gguf_set_val_u64(gguf.get(), "eoq.statistics.tokens", head.tokens);
    gguf_set_val_str(gguf.get(), "eoq.statistics.description", head.description.c_str());
    gguf_set_val_str(gguf.get(), "eoq.statistics.notes", "[]");
    gguf_set_val_str(gguf.get(), "eoq.statistics.inputs", list_of_inputs(inputs).c_str());
    int64_t size = 0;
    for (const moment_input & input : inputs) {
        add_tensor(gguf.get(), input.key + ".moments", GGML_TYPE_F32, packed_length(input.n), input.sets());
        add_tensor(gguf.get(), input.key + ".diagonal", GGML_TYPE_F32, input.n, input.sets());
        add_tensor(gguf.get(), input.key + ".counts", GGML_TYPE_F64, input.sets(), 1);
        size += input.sets() * (packed_length(input.n) + input.n + 2) * (int64_t) sizeof(float);
    }
    std::vector<uint8_t> meta(gguf_get_meta_size(gguf.get()));
    gguf_get_meta_data(gguf.get(), meta.data());

    namespace fs = std::filesystem;
    std::error_code none;
    fs::path        folder = fs::absolute(fs::path(path), none).parent_path();
    if (const fs::space_info space = fs::space(folder, none); !none && (int64_t) space.available + written < size) {
        throw std::runtime_error("the statistics take " + std::to_string(size / 1000000) + " MB, and " +
                                 folder.string() + " has " + std::to_string(space.available / 1000000) + " free");
    }
    if (written > 0) {
        // what came after the checkpoint is written again
        const auto there = fs::file_size(partial, none);
        if (none || (int64_t) there < written) {
            throw std::runtime_error(partial + " is not what the checkpoint belongs to; start anew, without --resume");
        }
        fs::resize_file(partial, written, none);
    }
    file = fopen(partial.c_str(), written > 0 ? "ab" : "wb");
    if (file == nullptr) {
        throw std::runtime_error(partial + " cannot be written: " + strerror(errno));
    }
    position = written;
    if (written == 0) {
        put(meta.data(), meta.size());
    }
}

moment_file::~moment_file() {
    if (file != nullptr) {
        fclose(file);
        if (!keeps) {
            remove(partial.c_str());
        }
    }
}

void moment_file::put(const void * data, size_t size) {
    if (fwrite(data, 1, size, file) != size) {
        throw std::runtime_error(partial + " cannot be written: " + strerror(errno));
    }
    position += (int64_t) size;
}

void moment_file::pad() {
    static const char zeros[GGUF_DEFAULT_ALIGNMENT] = {};
    put(zeros, GGML_PAD(position, GGUF_DEFAULT_ALIGNMENT) - position);
}

void moment_file::write(const moment_input & input, const std::vector<moment_set> & sets) {
    std::vector<float>  diagonal(input.n * input.sets()), row(input.n);
    std::vector<double> counts;
    for (size_t s = 0; s < sets.size(); s++) {
        counts.push_back(sets[s].count);
        if (sets[s].sums == nullptr) {
            for (int64_t i = 0; i < input.n; i++) {
                put(row.data(), (input.n - i) * sizeof(float));
            }
            continue;
        }
        std::vector<float> mean(input.n);
        const float        share = (float) (1 / sets[s].count);
        sets[s].sums->rows([&](int64_t i, const float * values) {
            for (int64_t j = 0; j < input.n - i; j++) {
                mean[j] = values[j] * share;
            }
            diagonal[s * input.n + i] = mean[0];
            if (!std::isfinite(mean[0])) {
                throw std::runtime_error("what flows into " + input.tensors[0] + " is not finite on this text");
            }
            put(mean.data(), (input.n - i) * sizeof(float));
        });
    }
    pad();
    put(diagonal.data(), diagonal.size() * sizeof(float));
    pad();
    put(counts.data(), counts.size() * sizeof(double));
    pad();
}

void moment_file::flush() {
    if (fflush(file) != 0) {
        throw std::runtime_error(partial + " cannot be written: " + strerror(errno));
    }
}

void moment_file::commit() {
    flush();
    fclose(file);
    file = nullptr;
    std::error_code reason;
    std::filesystem::rename(partial, path, reason);
    if (reason) {
        remove(partial.c_str());
        throw std::runtime_error(path + " cannot be written: " + reason.message());
    }
}
