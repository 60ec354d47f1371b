#pragma once

#include "llama.h"

#include <string>

// Takes llama.cpp's and ggml's messages as long as it lives, prints none, and keeps the first error: what is said later
// follows from it.
class log_capture {
  public:
    log_capture() { llama_log_set(remember, this); }

    ~log_capture() { llama_log_set(nullptr, nullptr); }

    log_capture(const log_capture &)             = delete;
    log_capture & operator=(const log_capture &) = delete;

    // In one line, without the name of the function that said it.
    std::string first_error(const std::string & otherwise) const {
        std::string  text = error.substr(0, error.find('\n'));
        const size_t name = text.find(": ");
        if (name != std::string::npos && text.find(' ') > name) {
            text.erase(0, name + 2);
        }
        return text.empty() ? otherwise : text;
    }

  private:
    static void remember(ggml_log_level level, const char * text, void * self) {
        std::string & error = static_cast<log_capture *>(self)->error;
        if (level == GGML_LOG_LEVEL_ERROR && error.empty()) {
            error = text;
        }
    }

    std::string error;
};
