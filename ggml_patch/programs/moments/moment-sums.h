// Sums of x x^T, on the device that holds x.

#pragma once

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

// Runs the updates of one device. Products are taken of bfloat16 where the CPU multiplies that in hardware, or else of
// float32; sums are float32 either way.
class sum_engine {
  public:
    explicit sum_engine(ggml_backend_ptr backend);

    ggml_backend_t backend() const { return device.get(); }

    // ggml's name of the device.
    std::string name() const { return ggml_backend_dev_name(ggml_backend_get_device(device.get())); }

    // Adds the upper triangle of x x^T over the rows x of a float32 matrix [n, rows] to the panels of moment_sums.
    void update(const std::vector<ggml_tensor *> & panels, const ggml_tensor * x);

  private:
    ggml_backend_ptr     device;
    ggml_gallocr_ptr     temporaries;
    std::vector<uint8_t> graph_memory;
    bool                 in_bfloat16;
};

// The engine of the device that a tensor lies on; engines are made once.
class sum_engines {
  public:
    explicit sum_engines(int n_threads) : n_threads(n_threads) {}

    // Throw std::runtime_error where the device cannot be used.
    std::shared_ptr<sum_engine> of(const ggml_tensor * tensor);
    std::shared_ptr<sum_engine> named(const std::string & device);

  private:
    int                                                n_threads;
    std::map<std::string, std::shared_ptr<sum_engine>> engines;
};

// The sum of x x^T over rows x of n values: the upper triangle, cut into panels of some rows each. Panel p is a matrix
// [n - first row, rows], so that it holds a small part of the lower triangle too, which nobody reads.
class moment_sums {
  public:
    // Zeros. Throws std::runtime_error where the device has no room for them.
    moment_sums(std::shared_ptr<sum_engine> engine, int64_t n);

    static int64_t nbytes(int64_t n);

    int64_t n() const { return length; }

    std::string device() const { return engine->name(); }

    // Rows of a float32 tensor on the engine's device, [n, rows].
    void add(const ggml_tensor * x);

    // Rows in the memory of this process.
    void add(const float * x, int64_t rows);

    // Gives every row i of the upper triangle to `take`: n - i values from the diagonal on.
    void rows(const std::function<void(int64_t i, const float * values)> & take) const;

    // All panels, bit by bit, for a checkpoint.
    void save(const std::function<void(const void * data, size_t size)> & write) const;
    void load(const std::function<void(void * data, size_t size)> & read);

  private:
    std::shared_ptr<sum_engine> engine;
    int64_t                     length;
    ggml_context_ptr            context;
    ggml_backend_buffer_ptr     buffer;
    std::vector<ggml_tensor *>  panels;
};
