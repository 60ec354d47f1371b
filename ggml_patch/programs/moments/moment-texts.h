// Texts as sequences of tokens.

#pragma once

#include "common.h"
#include "llama.h"

#include <cstdint>
#include <string>
#include <vector>

using token_sequence = std::vector<llama_token>;

// A file of text, or with the ending .jsonl of conversations, which go through the model's own chat template. Without a
// path it is what the model writes itself.
struct moment_text {
    std::string path;
    double      weight = 1;  // of its tokens, beside those of the other texts
};

// Sequences of up to `length` tokens with the marks that the model expects around a text, about `tokens` tokens in all:
// of each text by its weight where texts are long enough, from all over it. Throws std::runtime_error.
std::vector<token_sequence> token_sequences(llama_model *                    model,
                                            const common_params &            params,
                                            const std::vector<moment_text> & files,
                                            int64_t                          tokens,
                                            int64_t                          length);

// `count` texts of `length` tokens each at temperature 1, half of them conversations where the model has a chat template.
// The same on one machine each time. Throws std::runtime_error for a model that writes no text.
std::vector<token_sequence> write_own_text(llama_model * model, common_params params, int64_t count, int64_t length);
