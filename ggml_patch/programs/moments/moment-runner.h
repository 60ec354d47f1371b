// Runs sequences through a model.

#pragma once

#include "llama.h"
#include "moment-collector.h"
#include "moment-texts.h"

#include <cstdint>
#include <vector>

class moment_runner {
  public:
    // As many sequences of `length` tokens at a time as fit into a batch of n_batch tokens.
    moment_runner(llama_context * ctx, int64_t n_batch, int64_t length);
    ~moment_runner();

    moment_runner(const moment_runner &)             = delete;
    moment_runner & operator=(const moment_runner &) = delete;

    size_t sequences_per_batch() const { return per_batch; }

    // Sequences from `start` on, as many as run at a time; returns the end of them. Throws std::runtime_error.
    size_t run(const std::vector<token_sequence> & sequences, size_t start, moment_collector & collector);

    // Of what was run last, whole; 0 for models that predict nothing, which have no memory of what came before.
    double perplexity() const;

  private:
    void fill(const std::vector<token_sequence> & sequences, size_t start, size_t end, bool shifted);

    llama_context *     ctx;
    const llama_model * model;
    size_t              per_batch;
    llama_batch         batch;
};
