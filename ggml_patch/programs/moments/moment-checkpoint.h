// What is kept of a run, so that another can go on where it was killed.

#pragma once

#include "moment-collector.h"

#include <cstdint>
#include <fstream>
#include <string>

// Where a run stands.
struct moment_position {
    uint64_t pass = 0, sequence = 0;  // the next ones
    int64_t  written = 0;             // bytes of the statistics file
};

// The file of one run beside its output, whole or not at all.
class moment_checkpoint {
  public:
    // `identity` tells runs apart: a checkpoint of another one is refused.
    moment_checkpoint(const std::string & output, const std::string & identity)
        : path(output + ".checkpoint"), identity(identity) {}

    // Reads where an interrupted run stood; its start where there is no checkpoint. Throws std::runtime_error.
    moment_position open();

    // Reads the sums of the pass that `open` has named, where there are any. Throws std::runtime_error.
    bool load(moment_collector & collector);

    // Throws std::runtime_error.
    void save(const moment_position & position, const moment_collector & collector) const;

    void remove() const;

  private:
    std::string   path, identity;
    std::ifstream interrupted;
};
