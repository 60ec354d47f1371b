// libFuzzer: any file given to llama.cpp's reader of GGUF with the patch, and all data of its tensors to the validation of
// rows, as llama-check-gguf does it. What is no GGUF ends in an exception with a message, and nothing else.

#include "gguf-check.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    static const int         file = memfd_create("fuzz.gguf", 0);
    static const std::string path = "/proc/self/fd/" + std::to_string(file);
    if (file < 0 || ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t) size) {
        abort();
    }
    try {
        check_ggufs({ path }, 1);
    } catch (const invalid_gguf & e) {
        if (std::string(e.what()).size() <= path.size()) {
            abort();
        }
    }
    return 0;
}
