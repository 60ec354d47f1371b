#pragma once

#include <string>
#include <vector>

// Loads the files of one model as far as that needs none of their weights: architecture, parameters, vocabulary, names
// and shapes of all tensors. Throws std::runtime_error with what llama.cpp says first of what it does not take.
void check_model(const std::vector<std::string> & paths);
