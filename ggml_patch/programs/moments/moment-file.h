// The statistics file: a GGUF container that is written as the moments are found, and has its name when it is whole.

#pragma once

#include "moment-collector.h"

#include <cstdio>
#include <string>
#include <vector>

// All that the file tells before the moments.
struct moment_head {
    std::string fingerprint;  // tells the model, for who reads the file; may be empty
    uint64_t    tokens;
    std::string description;
};

class moment_file {
  public:
    // Starts the file, or goes on after `written` bytes of one that was interrupted. Throws std::runtime_error.
    moment_file(const std::string &               path,
                const moment_head &               head,
                const std::vector<moment_input> & inputs,
                int64_t                           written);
    // Without `commit` nothing stays, unless `keep` was called.
    ~moment_file();

    // The next input. Throws std::runtime_error.
    void write(const moment_input & input, const std::vector<moment_set> & sets);

    int64_t written() const { return position; }

    // Hands all bytes to the operating system.
    void flush();

    void keep() { keeps = true; }

    void commit();

  private:
    void put(const void * data, size_t size);
    void pad();

    std::string path, partial;
    FILE *      file     = nullptr;
    int64_t     position = 0;
    bool        keeps    = false;
};
