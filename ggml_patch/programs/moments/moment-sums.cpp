#include "moment-sums.h"

#include "ggml-backend.h"
#include "ggml.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

// Rows of a panel: its products stay in the cache until they are added to the sums.
static const int64_t PANEL         = 128;
// What the CPU's fast products ask of the number of rows.
static const int64_t ROWS_MULTIPLE = 32;

static int64_t panel_count(int64_t n) {
    return (n + PANEL - 1) / PANEL;
}

static bool is_cpu(ggml_backend_t backend) {
    return ggml_backend_dev_type(ggml_backend_get_device(backend)) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

// A function of the backend by its name: where each kind of CPU has a library of its own, there is none to link with.
static void * function_of(ggml_backend_t backend, const char * name) {
    return ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(ggml_backend_get_device(backend)), name);
}

static bool has_feature(ggml_backend_t backend, const char * name) {
    auto features = (ggml_backend_get_features_t) function_of(backend, "ggml_backend_get_features");
    if (features == nullptr) {
        return false;
    }
    ggml_backend_feature * feature = features(ggml_backend_dev_backend_reg(ggml_backend_get_device(backend)));
    while (feature->name != nullptr && strcmp(feature->name, name) != 0) {
        feature++;
    }
    return feature->name != nullptr;
}

sum_engine::sum_engine(ggml_backend_ptr backend) : device(std::move(backend)) {
    temporaries.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(device.get())));
    in_bfloat16 = is_cpu(device.get()) && has_feature(device.get(), "AVX512_BF16");
}

void sum_engine::update(const std::vector<ggml_tensor *> & panels, const ggml_tensor * x) {
    const int64_t n = x->ne[0], padded = GGML_PAD(x->ne[1], ROWS_MULTIPLE);
    const size_t  nodes = 4 * panels.size() + 8;
    graph_memory.resize(2 * nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(nodes, false));
    ggml_context_ptr context(ggml_init({ graph_memory.size(), graph_memory.data(), /*no_alloc*/ true }));
    ggml_context *   ctx = context.get();

    // a leaf of its own: x belongs to the graph of the model, which must not be followed
    ggml_tensor * rows = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n, x->ne[1]);
    rows->data         = x->data;
    rows->buffer       = x->buffer;
    rows->nb[1]        = x->nb[1];
    rows->nb[2] = rows->nb[3] = x->nb[1] * x->ne[1];
    if (padded != x->ne[1]) {
        rows =
            ggml_pad(ctx, ggml_is_contiguous(rows) ? rows : ggml_cont(ctx, rows), 0, (int) (padded - x->ne[1]), 0, 0);
    }
    const ggml_type type    = in_bfloat16 ? GGML_TYPE_BF16 : GGML_TYPE_F32;
    ggml_tensor *   columns = ggml_cpy(ctx, ggml_transpose(ctx, rows), ggml_new_tensor_2d(ctx, type, padded, n));

    ggml_cgraph * graph = ggml_new_graph_custom(ctx, nodes, false);
    for (size_t p = 0; p < panels.size(); p++) {
        const size_t  offset = p * PANEL * columns->nb[1];
        ggml_tensor * right  = ggml_view_2d(ctx, columns, padded, panels[p]->ne[0], columns->nb[1], offset);
        ggml_tensor * left   = ggml_view_2d(ctx, columns, padded, panels[p]->ne[1], columns->nb[1], offset);
        ggml_build_forward_expand(graph, ggml_add_inplace(ctx, panels[p], ggml_mul_mat(ctx, right, left)));
    }
    if (!ggml_gallocr_alloc_graph(temporaries.get(), graph) ||
        ggml_backend_graph_compute(device.get(), graph) != GGML_STATUS_SUCCESS) {
        throw std::runtime_error(std::string("sums of moments cannot be taken on ") + ggml_backend_name(device.get()));
    }
}

std::shared_ptr<sum_engine> sum_engines::of(const ggml_tensor * tensor) {
    // memory of this process counts as the CPU's, whoever has allocated it
    ggml_backend_dev_t device = ggml_backend_buffer_is_host(tensor->buffer) ?
                                    ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) :
                                    ggml_backend_buft_get_device(ggml_backend_buffer_get_type(tensor->buffer));
    if (device == nullptr) {
        throw std::runtime_error(std::string("sums of moments cannot be kept where ") + tensor->name + " lies");
    }
    return named(ggml_backend_dev_name(device));
}

std::shared_ptr<sum_engine> sum_engines::named(const std::string & device) {
    std::shared_ptr<sum_engine> & engine = engines[device];
    if (engine == nullptr) {
        ggml_backend_ptr backend(ggml_backend_init_by_name(device.c_str(), nullptr));
        if (backend == nullptr) {
            throw std::runtime_error("the device " + device + " cannot be used");
        }
        auto set_threads = (ggml_backend_set_n_threads_t) function_of(backend.get(), "ggml_backend_set_n_threads");
        if (is_cpu(backend.get()) && set_threads != nullptr) {
            set_threads(backend.get(), n_threads);
        }
        engine = std::make_shared<sum_engine>(std::move(backend));
    }
    return engine;
}

moment_sums::moment_sums(std::shared_ptr<sum_engine> engine, int64_t n) : engine(std::move(engine)), length(n) {
    context.reset(ggml_init({ panel_count(n) * ggml_tensor_overhead(), nullptr, /*no_alloc*/ true }));
    for (int64_t first = 0; first < n; first += PANEL) {
        panels.push_back(ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, n - first, std::min(PANEL, n - first)));
    }
    buffer.reset(ggml_backend_alloc_ctx_tensors(context.get(), this->engine->backend()));
    if (buffer == nullptr) {
        throw std::runtime_error("there is no room for the sums of moments; give --memory less");
    }
    ggml_backend_buffer_clear(buffer.get(), 0);
}

int64_t moment_sums::nbytes(int64_t n) {
    int64_t values = 0;
    for (int64_t first = 0; first < n; first += PANEL) {
        values += (n - first) * std::min(PANEL, n - first);
    }
    return values * (int64_t) sizeof(float);
}

void moment_sums::add(const ggml_tensor * x) {
    engine->update(panels, x);
}

void moment_sums::add(const float * x, int64_t rows) {
    ggml_context_ptr        one(ggml_init({ 2 * ggml_tensor_overhead(), nullptr, /*no_alloc*/ true }));
    ggml_tensor *           tensor = ggml_new_tensor_2d(one.get(), GGML_TYPE_F32, length, rows);
    ggml_backend_buffer_ptr memory(ggml_backend_alloc_ctx_tensors(one.get(), engine->backend()));
    if (memory == nullptr) {
        throw std::runtime_error("there is no room for the inputs of an expert; give --memory less");
    }
    ggml_backend_tensor_set(tensor, x, 0, ggml_nbytes(tensor));
    engine->update(panels, tensor);
}

void moment_sums::rows(const std::function<void(int64_t i, const float * values)> & take) const {
    std::vector<float> values;
    for (size_t p = 0; p < panels.size(); p++) {
        const int64_t width = panels[p]->ne[0];
        values.resize(ggml_nelements(panels[p]));
        ggml_backend_tensor_get(panels[p], values.data(), 0, ggml_nbytes(panels[p]));
        for (int64_t r = 0; r < panels[p]->ne[1]; r++) {
            take((int64_t) p * PANEL + r, values.data() + r * width + r);
        }
    }
}

void moment_sums::save(const std::function<void(const void * data, size_t size)> & write) const {
    std::vector<uint8_t> bytes;
    for (const ggml_tensor * panel : panels) {
        bytes.resize(ggml_nbytes(panel));
        ggml_backend_tensor_get(panel, bytes.data(), 0, bytes.size());
        write(bytes.data(), bytes.size());
    }
}

void moment_sums::load(const std::function<void(void * data, size_t size)> & read) {
    std::vector<uint8_t> bytes;
    for (ggml_tensor * panel : panels) {
        bytes.resize(ggml_nbytes(panel));
        read(bytes.data(), bytes.size());
        ggml_backend_tensor_set(panel, bytes.data(), 0, bytes.size());
    }
}
