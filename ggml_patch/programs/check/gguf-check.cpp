#include "gguf-check.h"

#include "ggml-cpp.h"
#include "gguf.h"
#include "log-capture.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

static constexpr size_t PIECE_BYTES = 4u << 20;

// One file, and where its tensors lie.
struct gguf_file {
    std::string      path;
    gguf_context_ptr gguf;
    uint64_t         size;
};

// Whole blocks of a tensor.
struct piece {
    const gguf_file * file;
    int64_t           tensor;
    size_t            offset;  // in the tensor
    size_t            size;
};

static invalid_gguf fault(const gguf_file & file, const std::string & what) {
    return invalid_gguf(file.path + ": " + what);
}

static invalid_gguf fault(const gguf_file & file, int64_t tensor, const std::string & what) {
    return fault(file, std::string("tensor ") + gguf_get_tensor_name(file.gguf.get(), tensor) + ": " + what);
}

static gguf_file open_file(const std::string & path) {
    log_capture      log(ggml_log_set);
    gguf_context_ptr gguf(gguf_init_from_file(path.c_str(), { /*no_alloc*/ true, /*ctx*/ nullptr }));
    if (!gguf) {
        throw invalid_gguf(path + ": " + log.first_error("it is no GGUF"));
    }
    std::ifstream stream(path, std::ios::binary | std::ios::ate);
    return { path, std::move(gguf), (uint64_t) std::max<std::streamoff>(0, stream.tellg()) };
}

// A number that llama.cpp's loader takes in this type alone; -1 where there is none.
static int64_t split_number(const gguf_file & file, const char * key, gguf_type type) {
    const int64_t id = gguf_find_key(file.gguf.get(), key);
    if (id < 0) {
        return -1;
    }
    if (gguf_get_kv_type(file.gguf.get(), id) != type) {
        throw fault(file, std::string(key) + " is not of type " + gguf_type_name(type));
    }
    return type == GGUF_TYPE_UINT16 ? gguf_get_val_u16(file.gguf.get(), id) : gguf_get_val_i32(file.gguf.get(), id);
}

// What llama_model_loader asks of the files of one model.
static void check_splits(const std::vector<gguf_file> & files) {
    std::map<std::string, const gguf_file *> seen;
    for (const gguf_file & file : files) {
        for (int64_t i = 0; i < gguf_get_n_tensors(file.gguf.get()); ++i) {
            const auto [other, is_new] = seen.emplace(gguf_get_tensor_name(file.gguf.get(), i), &file);
            if (!is_new) {
                throw fault(file, i, "it stands in " + other->second->path + " as well");
            }
        }
    }
    const int64_t count = std::max<int64_t>(1, split_number(files[0], "split.count", GGUF_TYPE_UINT16));
    if (count != (int64_t) files.size()) {
        throw fault(files[0], "the model has " + std::to_string(count) + " files, not " + std::to_string(files.size()));
    }
    for (size_t i = 0; count > 1 && i < files.size(); ++i) {
        if (split_number(files[i], "split.no", GGUF_TYPE_UINT16) != (int64_t) i) {
            throw fault(files[i], "split.no is not " + std::to_string(i));
        }
    }
    if (count > 1 && split_number(files[0], "split.tensors.count", GGUF_TYPE_INT32) != (int64_t) seen.size()) {
        throw fault(files[0], "split.tensors.count is not the number of all tensors, " + std::to_string(seen.size()));
    }
}

static std::vector<piece> pieces_of(const std::vector<gguf_file> & files) {
    std::vector<piece> pieces;
    for (const gguf_file & file : files) {
        for (int64_t i = 0; i < gguf_get_n_tensors(file.gguf.get()); ++i) {
            const ggml_type type = gguf_get_tensor_type(file.gguf.get(), i);
            if (!ggml_validate_row_data(type, nullptr, 0)) {
                throw fault(file, i, std::string(ggml_type_name(type)) + " is no type for tensors in files");
            }
            const size_t   block = ggml_type_size(type);
            const size_t   size  = gguf_get_tensor_size(file.gguf.get(), i);
            const uint64_t start = gguf_get_data_offset(file.gguf.get()) + gguf_get_tensor_offset(file.gguf.get(), i);
            if (start > file.size || size > file.size - start) {
                throw fault(file, i, "the file ends before it does");
            }
            const size_t most = std::max(block, PIECE_BYTES / block * block);
            for (size_t offset = 0; offset < size; offset += most) {
                pieces.push_back({ &file, i, offset, std::min(most, size - offset) });
            }
        }
    }
    return pieces;
}

// The first block of a piece that is not valid, in words.
static std::string describe(const piece & p, const std::vector<char> & data) {
    const gguf_context * gguf  = p.file->gguf.get();
    const ggml_type      type  = gguf_get_tensor_type(gguf, p.tensor);
    const size_t         block = ggml_type_size(type);
    size_t               bad   = 0;
    while (bad + block < p.size && ggml_validate_row_data(type, data.data() + bad, block)) {
        bad += block;
    }
    const int64_t     row_blocks = gguf_get_tensor_ne(gguf, p.tensor)[0] / ggml_blck_size(type);
    const int64_t     number     = (int64_t) ((p.offset + bad) / block);
    const std::string place = std::to_string(number % row_blocks) + " of row " + std::to_string(number / row_blocks);
    return ggml_is_quantized(type) ? "block " + place + " has a scale that is infinite or NaN" :
                                     "number " + place + " is infinite or NaN";
}

// Reads pieces of files, one after the other.
class piece_reader {
  public:
    // Reads a piece and validates it. Throws.
    void check(const piece & p) {
        if (file != p.file) {
            stream.close();
            stream.clear();
            stream.open(p.file->path, std::ios::binary);
            file = p.file;
        }
        const gguf_context * gguf = p.file->gguf.get();
        data.resize(p.size);
        stream.seekg((std::streamoff) (gguf_get_data_offset(gguf) + gguf_get_tensor_offset(gguf, p.tensor) + p.offset));
        if (!stream.read(data.data(), (std::streamsize) p.size)) {
            throw fault(*p.file, p.tensor, "the file cannot be read");
        }
        if (!ggml_validate_row_data(gguf_get_tensor_type(gguf, p.tensor), data.data(), p.size)) {
            throw fault(*p.file, p.tensor, describe(p, data));
        }
    }

  private:
    const gguf_file * file = nullptr;
    std::ifstream     stream;
    std::vector<char> data;
};

static void check_pieces(const std::vector<piece> & pieces, size_t threads) {
    std::atomic<size_t> next{ 0 };
    std::mutex          mutex;
    size_t              first_bad = std::numeric_limits<size_t>::max();
    std::exception_ptr  error;

    const auto work = [&]() {
        piece_reader reader;
        // pieces are taken in order, so those before the first bad one are all looked at
        for (size_t i = next++; i < pieces.size(); i = next++) {
            try {
                reader.check(pieces[i]);
            } catch (...) {
                const std::lock_guard<std::mutex> lock(mutex);
                next = pieces.size();
                if (i < first_bad) {
                    first_bad = i;
                    error     = std::current_exception();
                }
            }
        }
    };
    std::vector<std::thread> others;
    others.reserve(threads);
    try {
        for (size_t t = 1; t < std::min(threads, pieces.size()); ++t) {
            others.emplace_back(work);
        }
    } catch (const std::system_error &) {
        // the machine gives no more of them: those that there are do the work
    }
    work();
    for (std::thread & other : others) {
        other.join();
    }
    if (error) {
        std::rethrow_exception(error);
    }
}

gguf_totals check_ggufs(const std::vector<std::string> & paths, size_t threads) {
    std::vector<gguf_file> files;
    for (const std::string & path : paths) {
        files.push_back(open_file(path));
    }
    check_splits(files);
    const std::vector<piece> pieces = pieces_of(files);
    check_pieces(pieces, threads);

    gguf_totals totals;
    for (const gguf_file & file : files) {
        totals.tensors += gguf_get_n_tensors(file.gguf.get());
    }
    for (const piece & p : pieces) {
        totals.bytes += p.size;
    }
    return totals;
}
