#include "moment-checkpoint.h"

#include <cstdio>
#include <filesystem>
#include <stdexcept>

moment_position moment_checkpoint::open() {
    moment_position position;
    if (!std::filesystem::exists(path)) {
        return position;
    }
    uint64_t    size = 0;
    std::string found(identity.size(), '\0');
    interrupted.open(path, std::ios::binary);
    interrupted.read((char *) &size, sizeof(size));
    if (size == identity.size()) {
        interrupted.read(&found[0], (std::streamsize) size);
    }
    if (size != identity.size() || found != identity) {
        throw std::runtime_error("the checkpoint " + path +
                                 " is of another model, text or options; leave --resume out to start anew");
    }
    interrupted.read((char *) &position, sizeof(position));
    return position;
}

bool moment_checkpoint::load(moment_collector & collector) {
    if (!interrupted.is_open()) {
        return false;
    }
    collector.load([&](void * data, size_t size) {
        if (!interrupted.read((char *) data, (std::streamsize) size)) {
            throw std::runtime_error("the checkpoint " + path + " is damaged; leave --resume out to start anew");
        }
    });
    interrupted.close();
    return true;
}

void moment_checkpoint::save(const moment_position & position, const moment_collector & collector) const {
    const std::string partial = path + ".part";
    const uint64_t    size    = identity.size();
    std::ofstream     stream(partial, std::ios::binary);
    stream.write((const char *) &size, sizeof(size));
    stream.write(identity.data(), (std::streamsize) size);
    stream.write((const char *) &position, sizeof(position));
    collector.save(
        [&](const void * data, size_t bytes) { stream.write((const char *) data, (std::streamsize) bytes); });
    stream.close();
    std::error_code reason;
    if (stream) {
        std::filesystem::rename(partial, path, reason);
    }
    if (!stream || reason) {
        std::remove(partial.c_str());
        throw std::runtime_error("the checkpoint " + path + " cannot be written");
    }
}

void moment_checkpoint::remove() const {
    std::remove(path.c_str());
}
