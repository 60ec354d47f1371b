#include "moment-collector.h"

#include "common.h"
#include "ggml.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

// Rows of an expert that are summed at a time: fewer would spend the time on reading and writing the sums.
static const int64_t WAITING_ROWS = 128;

// The weight that a node multiplies with, or nothing. The scheduler calls a copy on another device "CUDA0#name#0".
static std::string weight_of(const ggml_tensor * node) {
    if (node->op != GGML_OP_MUL_MAT && node->op != GGML_OP_MUL_MAT_ID) {
        return "";
    }
    std::string name = node->src[0]->name;
    if (const size_t start = name.find('#'); start != std::string::npos) {
        name = name.substr(start + 1, name.find('#', start + 1) - start - 1);
    }
    return string_ends_with(name, ".weight") ? name : "";
}

static const ggml_tensor * before_reshape(const ggml_tensor * tensor) {
    while (tensor != nullptr && tensor->op == GGML_OP_RESHAPE) {
        tensor = tensor->src[0];
    }
    return tensor;
}

static bool is_output(const std::string & weight) {
    return weight == "output.weight" || weight == "token_embd.weight";
}

int64_t moment_input::nbytes() const {
    const int64_t waits = sets() > 1 ? WAITING_ROWS * n * (int64_t) sizeof(float) : 0;
    return sets() * (moment_sums::nbytes(n) + waits);
}

void moment_set::flush() {
    if (!waiting.empty()) {
        sums->add(waiting.data(), (int64_t) waiting.size() / sums->n());
        waiting.clear();
    }
}

bool moment_collector::callback(ggml_tensor * node, bool ask, void * collector) {
    return ((moment_collector *) collector)->on_node(node, ask);
}

bool moment_collector::on_node(ggml_tensor * node, bool ask) {
    if (!measures) {
        if (ask) {
            discover(node);
        }
        return !ask;  // nothing is asked for, nothing is stopped
    }
    // once all has come, each part of the graph ends after its first node
    if (awaited == 0 || !error.empty()) {
        return ask;
    }
    size_t input = 0;
    if (ask) {
        return wants(node, input);
    }
    // exceptions must not pass through ggml
    try {
        if (wants(node, input)) {
            take(node, input);
            awaited--;
        }
    } catch (const std::exception & e) {
        error = e.what();
    }
    return awaited > 0 && error.empty();
}

void moment_collector::discover(const ggml_tensor * node) {
    const std::string weight = weight_of(node);
    if (weight.empty() || (is_output(weight) && !process_output) || node->src[1]->type != GGML_TYPE_F32) {
        return;
    }
    if (auto known = of_weight.find(weight); known != of_weight.end()) {
        moment_input & input = found[known->second];
        input.uses += input.tensors[0] == weight;
        return;
    }
    const ggml_tensor * source   = before_reshape(node->src[1]);
    const bool          is_mixed = node->op == GGML_OP_MUL_MAT_ID;
    const int64_t       experts  = node->src[0]->ne[2] * node->src[0]->ne[3];
    const bool          shared   = is_mixed && node->src[2]->ne[0] == experts && node->src[1]->ne[1] == 1;

    const std::vector<const void *> signature = { source, is_mixed && !shared ? before_reshape(node->src[2]) : nullptr,
                                                  (const void *) (intptr_t) experts, (const void *) (intptr_t) shared };
    if (auto same = of_signature.find(signature);
        same != of_signature.end() && found[same->second].n == node->src[1]->ne[0]) {
        found[same->second].tensors.push_back(weight);
        of_weight[weight] = same->second;
        return;
    }
    moment_input input      = { weight.substr(0, weight.size() - strlen(".weight")),
                                node->src[1]->ne[0],
                                experts,
                                shared,
                                { weight },
                                is_output(weight) && skip_output ? source->name : "",
                                1 };
    of_signature[signature] = of_weight[weight] = found.size();
    if (!input.producer.empty()) {
        of_producer[input.producer] = found.size();
    }
    found.push_back(input);
}

// Whether the input of a number is to be taken at this node.
bool moment_collector::wants(const ggml_tensor * node, size_t & input) const {
    if (auto known = of_producer.find(node->name); known != of_producer.end()) {
        input = known->second;
        return input >= first && input < last;
    }
    const std::string weight = weight_of(node);
    if (weight.empty()) {
        return false;
    }
    auto known = of_weight.find(weight);
    if (known == of_weight.end()) {
        return false;
    }
    input = known->second;
    return input >= first && input < last && found[input].tensors[0] == weight && found[input].producer.empty();
}

void moment_collector::measure(size_t first_input, size_t last_input) {
    measures = true;
    first    = first_input;
    last     = last_input;
    sets.clear();
    for (size_t i = first; i < last; i++) {
        sets.emplace_back(found[i].sets());
    }
}

void moment_collector::begin_batch() {
    awaited = 0;
    for (size_t i = first; i < last; i++) {
        awaited += found[i].uses;
    }
}

void moment_collector::check() const {
    if (!error.empty()) {
        throw std::runtime_error(error);
    }
}

std::vector<moment_set> & moment_collector::finished(size_t input) {
    for (moment_set & set : sets[input - first]) {
        set.flush();
    }
    return sets[input - first];
}

void moment_collector::take(const ggml_tensor * node, size_t input) {
    if (!found[input].producer.empty()) {
        take_rows(sets[input - first][0], *node);
        return;
    }
    const ggml_tensor * x = node->src[1];
    if (node->op == GGML_OP_MUL_MAT_ID && !found[input].shared) {
        take_experts(node, input);
        return;
    }
    const ggml_tensor * weight = node->src[0];
    if (found[input].sets() == 1 && ggml_is_contiguous(x)) {
        take_rows(sets[input - first][0], *x);
        return;
    }
    for (int64_t i3 = 0; i3 < x->ne[3]; i3++) {
        for (int64_t i2 = 0; i2 < x->ne[2]; i2++) {
            ggml_tensor rows = *x;
            rows.data        = (char *) x->data + i2 * x->nb[2] + i3 * x->nb[3];
            rows.ne[2] = rows.ne[3] = 1;
            // one matrix may serve several in a row
            const int64_t matrix    = i3 * weight->ne[3] / x->ne[3] * weight->ne[2] + i2 * weight->ne[2] / x->ne[2];
            take_rows(sets[input - first][found[input].shared ? 0 : matrix], rows);
        }
    }
}

// Rows that lie ne[0] values each, nb[1] bytes apart, or all together where there are more dimensions.
void moment_collector::take_rows(moment_set & set, ggml_tensor rows) {
    rows.ne[1] = ggml_nrows(&rows);
    rows.ne[2] = rows.ne[3] = 1;
    if (rows.ne[1] == 0) {
        return;
    }
    if (set.sums == nullptr) {
        set.sums = std::make_unique<moment_sums>(engines.of(&rows), rows.ne[0]);
    }
    set.sums->add(&rows);
    set.count += (double) rows.ne[1];
}

void moment_collector::take_experts(const ggml_tensor * node, size_t input) {
    const ggml_tensor *       x      = node->src[1];
    const ggml_tensor *       chosen = node->src[2];
    std::vector<moment_set> & of     = sets[input - first];

    const char * data = (const char *) x->data;
    if (!ggml_backend_buffer_is_host(x->buffer)) {
        activations.resize(ggml_nbytes(x));
        ggml_backend_tensor_get(x, activations.data(), 0, activations.size());
        data = (const char *) activations.data();
    }
    // the choices are a part of the rows of a sorted matrix
    std::vector<uint8_t> choice(ggml_nbytes(chosen));
    ggml_backend_tensor_get(chosen, choice.data(), 0, choice.size());
    for (int64_t token = 0; token < chosen->ne[1]; token++) {
        for (int64_t k = 0; k < chosen->ne[0]; k++) {
            int32_t expert;
            memcpy(&expert, choice.data() + token * chosen->nb[1] + k * chosen->nb[0], sizeof(expert));
            if (expert < 0 || expert >= (int64_t) of.size()) {
                throw std::runtime_error(std::string(node->name) + " chooses an expert that there is not");
            }
            moment_set &  set = of[expert];
            const float * row = (const float *) (data + (k % x->ne[1]) * x->nb[1] + token * x->nb[2]);
            if (set.sums == nullptr) {
                set.sums = std::make_unique<moment_sums>(engines.of(x), x->ne[0]);
            }
            set.waiting.insert(set.waiting.end(), row, row + x->ne[0]);
            set.count++;
        }
    }
    for (moment_set & set : of) {
        if ((int64_t) set.waiting.size() >= WAITING_ROWS * x->ne[0]) {
            set.flush();
        }
    }
}

void moment_collector::save(const std::function<void(const void * data, size_t size)> & write) const {
    for (const auto & of_input : sets) {
        for (const moment_set & set : of_input) {
            const uint64_t waiting = set.waiting.size();
            std::string    device  = set.sums == nullptr ? "" : set.sums->device();
            device.resize(64);
            write(&set.count, sizeof(set.count));
            write(&waiting, sizeof(waiting));
            write(device.data(), device.size());
            write(set.waiting.data(), waiting * sizeof(float));
            if (set.sums != nullptr) {
                set.sums->save(write);
            }
        }
    }
}

void moment_collector::load(const std::function<void(void * data, size_t size)> & read) {
    for (size_t i = first; i < last; i++) {
        for (moment_set & set : sets[i - first]) {
            uint64_t    waiting = 0;
            std::string device(64, '\0');
            read(&set.count, sizeof(set.count));
            read(&waiting, sizeof(waiting));
            read(device.data(), device.size());
            device.resize(strlen(device.c_str()));
            if (waiting > (uint64_t) (1 << 30)) {
                throw std::runtime_error("the checkpoint is damaged; remove it and start anew");
            }
            set.waiting.resize(waiting);
            read(set.waiting.data(), waiting * sizeof(float));
            if (!device.empty()) {
                set.sums = std::make_unique<moment_sums>(engines.named(device), found[i].n);
                set.sums->load(read);
            }
        }
    }
}
