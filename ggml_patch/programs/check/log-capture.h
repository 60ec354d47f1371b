#pragma once

#include "ggml.h"

#include <string>

// Takes the messages of ggml, or of llama.cpp as well, as long as it lives, prints none, and keeps the first error: what
// is said later follows from it.
class log_capture {
  public:
    // ggml_log_set, or llama_log_set
    using setter = void (*)(ggml_log_callback, void *);

    explicit log_capture(setter set) : set(set) { set(remember, this); }

    ~log_capture() { set(nullptr, nullptr); }

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

    setter      set;
    std::string error;
};
