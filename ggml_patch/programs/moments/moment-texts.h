// Texts as sequences of tokens.

#pragma once

#include "llama.h"

#include <cstdint>
#include <string>
#include <vector>

using token_sequence = std::vector<llama_token>;

// Sequences of up to `length` tokens with the marks that the model expects around a text, about `tokens` tokens in all:
// the same number of each text where texts are long enough, from all over it. Throws std::runtime_error.
std::vector<token_sequence> token_sequences(const llama_vocab *              vocab,
                                            const std::vector<std::string> & files,
                                            int64_t                          tokens,
                                            int64_t                          length,
                                            bool                             parse_special);
