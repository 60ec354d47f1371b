// Watches a model run, and sums what flows into its weights.

#pragma once

#include "moment-sums.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

// An input of the model and the weights that it feeds.
struct moment_input {
    std::string              key;      // the first weight's name, without ".weight"
    int64_t                  n;        // channels
    int64_t                  experts;  // matrices of the weights; 1 for ordinary ones
    bool                     shared;   // all experts are given the same
    std::vector<std::string> tensors;
    // A node to take the input from when it is computed, so that the product need not be: the output layer's alone
    // costs as much as a third of a small model.
    std::string              producer;
    int                      uses;  // in one batch

    int64_t sets() const { return shared ? 1 : experts; }

    // Of all sums, and of what experts have waiting.
    int64_t nbytes() const;
};

// What was found of one set of an input.
struct moment_set {
    double                       count = 0;
    std::unique_ptr<moment_sums> sums;  // null until a row comes
    std::vector<float>           waiting;

    void flush();
};

class moment_collector {
  public:
    // process_output: measure the input of the output layer too, without its product unless `compute_output` is called.
    moment_collector(int n_threads, bool process_output) : engines(n_threads), process_output(process_output) {}

    // For models with two graphs, of an encoder and a decoder, whose nodes have the same names.
    void compute_output() { skip_output = false; }

    // For llama_context_params::cb_eval.
    static bool callback(ggml_tensor * node, bool ask, void * collector);

    // Until `measure`, graphs are looked at alone, for the inputs that they have.
    const std::vector<moment_input> & inputs() const { return found; }

    // From now on sum the inputs first <= i < last, and end the work of a batch when they have all come.
    void measure(size_t first, size_t last);

    // To be called before each batch, and before each graph of it: those of an encoder and a decoder.
    void begin_batch();

    void begin_graph() { of_signature.clear(); }

    // To be called after each batch. Throws std::runtime_error where something in it failed.
    void check() const;

    // All sets of an input, complete: the ones that wait are summed. They go with the next call of `measure`.
    std::vector<moment_set> & finished(size_t input);

    // What was summed so far, bit by bit, for a checkpoint.
    void save(const std::function<void(const void * data, size_t size)> & write) const;
    void load(const std::function<void(void * data, size_t size)> & read);

  private:
    bool on_node(ggml_tensor * node, bool ask);
    void discover(const ggml_tensor * node);
    bool wants(const ggml_tensor * node, size_t & input) const;
    void take(const ggml_tensor * node, size_t input);
    void take_rows(moment_set & set, ggml_tensor rows);
    void take_experts(const ggml_tensor * node, size_t input);

    sum_engines                                 engines;
    bool                                        process_output, skip_output = true;
    std::vector<moment_input>                   found;
    std::map<std::string, size_t>               of_weight, of_producer;
    // of the graph that is looked at: what tells inputs apart
    std::map<std::vector<const void *>, size_t> of_signature;
    bool                                        measures = false;
    size_t                                      first = 0, last = 0;
    std::vector<std::vector<moment_set>>        sets;  // from `first` on
    int                                         awaited = 0;
    std::string                                 error;
    std::vector<uint8_t>                        activations;
};
