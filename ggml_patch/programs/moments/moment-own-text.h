// Text that a model writes itself.

#pragma once

#include "common.h"
#include "moment-texts.h"

// `count` texts of `length` tokens each at temperature 1, half of them conversations where the model has a chat template.
// The same on one machine each time. Throws std::runtime_error for a model that writes no text.
std::vector<token_sequence> write_own_text(llama_model * model, common_params params, int64_t count, int64_t length);
