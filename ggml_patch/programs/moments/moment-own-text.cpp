#include "chat.h"
#include "llama-cpp.h"
#include "moment-texts.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

// Texts that are written at a time.
static const int64_t AT_A_TIME = 32;

// What a text begins with: the token that begins any, or the one that ends any, which is what many models are trained on.
static llama_token first_token(const llama_vocab * vocab) {
    for (const llama_token token : { llama_vocab_bos(vocab), llama_vocab_eos(vocab), llama_vocab_nl(vocab) }) {
        if (token != LLAMA_TOKEN_NULL) {
            return token;
        }
    }
    return 0;
}

// A conversation up to where the user begins to speak; nothing without a template.
static token_sequence before_the_user(const llama_model * model) {
    static const std::string MARK = "\x01";

    const auto templates = common_chat_templates_init(model, "");
    if (!common_chat_templates_was_explicit(templates.get())) {
        return {};
    }
    common_chat_msg message;
    message.role    = "user";
    message.content = MARK;
    common_chat_templates_inputs inputs;
    inputs.messages        = { message };
    const std::string text = common_chat_templates_apply(templates.get(), inputs).prompt;
    return common_tokenize(llama_model_get_vocab(model), text.substr(0, text.find(MARK)), false, true);
}

std::vector<token_sequence> write_own_text(llama_model * model, common_params params, int64_t count, int64_t length) {
    const llama_vocab * vocab = llama_model_get_vocab(model);
    const int64_t       width = std::min(count, AT_A_TIME);
    if (!llama_model_has_decoder(model) || llama_model_has_encoder(model)) {
        throw std::runtime_error("the model writes no text of its own; give texts with -f");
    }
    params.cb_eval    = nullptr;
    params.n_parallel = (int32_t) width;
    params.n_ctx      = (int32_t) (width * length);
    params.n_batch = params.n_ubatch = (int32_t) width;
    llama_context_ptr ctx(llama_init_from_model(model, common_context_params_to_llama(params)));
    if (ctx == nullptr || llama_get_memory(ctx.get()) == nullptr) {
        throw std::runtime_error("the model writes no text of its own; give texts with -f");
    }
    const token_sequence        plain = { first_token(vocab) }, chat = before_the_user(model);
    llama_batch                 batch = llama_batch_init((int32_t) width, 0, 1);
    std::vector<token_sequence> written(count);
    for (int64_t first = 0; first < count; first += width) {
        const int64_t                  last = std::min(first + width, count);
        std::vector<llama_sampler_ptr> samplers;
        for (int64_t s = first; s < last; s++) {
            samplers.emplace_back(llama_sampler_init_dist((uint32_t) s));  // as likely as the model says
            written[s] = s % 2 == 1 && !chat.empty() ? chat : plain;
        }
        llama_memory_clear(llama_get_memory(ctx.get()), true);
        for (int64_t i = 0; i + 1 < length; i++) {
            batch.n_tokens = 0;
            for (int64_t s = first; s < last; s++) {
                const int32_t row    = batch.n_tokens++;
                batch.token[row]     = written[s][i];
                batch.pos[row]       = (llama_pos) i;
                batch.n_seq_id[row]  = 1;
                batch.seq_id[row][0] = (llama_seq_id) (s - first);
                batch.logits[row]    = (int64_t) written[s].size() == i + 1;
            }
            if (llama_decode(ctx.get(), batch) != 0) {
                llama_batch_free(batch);
                throw std::runtime_error("llama.cpp cannot let the model write");
            }
            for (int64_t s = first; s < last; s++) {
                if (batch.logits[s - first] == 0) {
                    continue;
                }
                const llama_token last_token = written[s].back();
                // a text that has ended is followed by another; a conversation goes on
                const bool        ended      = s % 2 == 0 && llama_vocab_is_eog(vocab, last_token) && i > 0;
                written[s].push_back(ended ? plain[0] :
                                             llama_sampler_sample(samplers[s - first].get(), ctx.get(), s - first));
            }
            if (i % 32 == 0) {
                printf("writing token %lld/%lld of texts %lld to %lld\n", (long long) i, (long long) length,
                       (long long) first + 1, (long long) last);
                fflush(stdout);
            }
        }
    }
    llama_batch_free(batch);
    for (token_sequence & one : written) {
        one.resize(length);
    }
    return written;
}
