#include "model-check.h"

#include "ggml-backend.h"
#include "llama-cpp.h"
#include "llama.h"
#include "log-capture.h"

#include <stdexcept>

void check_model(const std::vector<std::string> & paths) {
    const log_capture log(llama_log_set);
    ggml_backend_load_all();
    llama_backend_init();

    std::vector<const char *> names;
    for (const std::string & path : paths) {
        names.push_back(path.c_str());
    }
    ggml_backend_dev_t cpu_alone[] = { nullptr };
    llama_model_params params      = llama_model_default_params();
    params.devices                 = cpu_alone;
    params.n_gpu_layers            = 0;
    params.no_alloc                = true;
    params.load_mode               = LLAMA_LOAD_MODE_NONE;  // a mapping would be an allocation
    const llama_model_ptr model(llama_model_load_from_splits(names.data(), names.size(), params));
    if (!model) {
        const std::string said  = log.first_error("llama.cpp does not say why");
        const std::string start = "error loading model: ";
        throw std::runtime_error(said.compare(0, start.size(), start) == 0 ? said.substr(start.size()) : said);
    }
}
