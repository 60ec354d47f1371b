#include "moment-runner.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

moment_runner::moment_runner(llama_context * ctx, int64_t n_batch, int64_t length)
    : ctx(ctx), model(llama_get_model(ctx)), per_batch((size_t) std::max<int64_t>(1, n_batch / length)),
      batch(llama_batch_init((int32_t) (per_batch * length), 0, 1)) {}

moment_runner::~moment_runner() {
    llama_batch_free(batch);
}

static void check(int32_t status, const moment_collector & collector) {
    collector.check();
    if (status != 0) {
        throw std::runtime_error("llama.cpp cannot run the text (status " + std::to_string(status) + ")");
    }
}

size_t moment_runner::run(const std::vector<token_sequence> & sequences, size_t start, moment_collector & collector) {
    const size_t end = std::min(start + per_batch, sequences.size());
    collector.begin_batch();
    if (llama_memory_t memory = llama_get_memory(ctx)) {
        llama_memory_clear(memory, true);
    }
    if (llama_model_has_encoder(model)) {
        fill(sequences, start, end, false);
        collector.begin_graph();
        check(llama_encode(ctx, batch), collector);
    }
    if (llama_model_has_decoder(model)) {
        fill(sequences, start, end, llama_model_has_encoder(model));
        collector.begin_graph();
        check(llama_decode(ctx, batch), collector);
    }
    return end;
}

// A decoder after an encoder is shown the same text, one token later.
void moment_runner::fill(const std::vector<token_sequence> & sequences, size_t start, size_t end, bool shifted) {
    const llama_token begin = llama_model_decoder_start_token(model) != LLAMA_TOKEN_NULL ?
                                  llama_model_decoder_start_token(model) :
                                  llama_vocab_bos(llama_model_get_vocab(model));
    batch.n_tokens          = 0;
    for (size_t s = start; s < end; s++) {
        for (size_t i = 0; i < sequences[s].size(); i++) {
            const int32_t row    = batch.n_tokens++;
            batch.token[row]     = !shifted ? sequences[s][i] : i > 0 ? sequences[s][i - 1] : begin;
            batch.pos[row]       = (llama_pos) i;
            batch.n_seq_id[row]  = 1;
            batch.seq_id[row][0] = (llama_seq_id) (s - start);
            // outputs everywhere, or else the last block would run for some tokens alone
            batch.logits[row]    = 1;
        }
    }
}

double moment_runner::perplexity() const {
    if (!llama_model_has_decoder(model) || llama_get_memory(ctx) == nullptr) {
        return 0;
    }
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    double    sum = 0, count = 0;
    for (int32_t i = 0; i + 1 < batch.n_tokens; i++) {
        if (batch.seq_id[i][0] != batch.seq_id[i + 1][0]) {
            continue;
        }
        const float * logits = llama_get_logits_ith(ctx, i);
        const double  most   = *std::max_element(logits, logits + n_vocab);
        double        total  = 0;
        for (int v = 0; v < n_vocab; v++) {
            total += std::exp(logits[v] - most);
        }
        sum += most + std::log(total) - logits[batch.token[i + 1]];
        count++;
    }
    return count > 0 ? std::exp(sum / count) : 0;
}
