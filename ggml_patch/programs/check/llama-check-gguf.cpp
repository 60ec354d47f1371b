// Says whether llama.cpp's own reader takes the files of a model: their heads, and every block of their tensors.

#include "gguf-check.h"
#include "model-check.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>

#if defined(_WIN32)
#    include <io.h>
#    define dup         _dup
#    define fdopen      _fdopen
#    define fileno      _fileno
#    define NULL_DEVICE "NUL"
#else
#    include <unistd.h>
#    define NULL_DEVICE "/dev/null"
#endif

static const char USAGE[] =
    "usage: llama-check-gguf [options] model.gguf [split.gguf ...]\n"
    "\n"
    "Reads all files of one model as llama.cpp does, validates the data of their tensors, and says on standard output\n"
    "that it is valid, and whether llama.cpp loads the model. A file that is not valid is an error, of exit status 1;\n"
    "all other errors have 2.\n"
    "\n"
    "  --load-only      load the model alone, which reads no data; that it does not load is an error then\n"
    "  -t, --threads N  threads that read and validate (default: all cores)\n";

static const long MOST_THREADS = 4096;  // as many as converter/options.py takes

struct check_options {
    std::vector<std::string> paths;
    size_t                   threads   = std::thread::hardware_concurrency();
    bool                     load_only = false;
};

static check_options parse(int argc, char ** argv) {
    check_options options;
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        if (word == "-h" || word == "--help") {
            printf("%s", USAGE);
            exit(0);
        }
        if (word == "--load-only") {
            options.load_only = true;
        } else if (word == "-t" || word == "--threads") {
            char *     end    = nullptr;
            const long number = i + 1 < argc ? strtol(argv[++i], &end, 10) : 0;
            if (end == nullptr || *end != '\0' || number < 1 || number > MOST_THREADS) {
                throw std::runtime_error(word + " is a number from 1 to " + std::to_string(MOST_THREADS));
            }
            options.threads = (size_t) number;
        } else if (word.size() > 1 && word[0] == '-') {
            throw std::runtime_error("there is no option " + word + "; see --help");
        } else {
            options.paths.push_back(word);
        }
    }
    if (options.paths.empty()) {
        throw std::runtime_error("give the files of a model, see --help");
    }
    return options;
}

// One line, whatever names in the file hold.
static std::string one_line(std::string text) {
    std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
    return text;
}

// Why llama.cpp does not load them as a model; empty where it does.
static std::string why_not_loaded(const std::vector<std::string> & paths) {
    try {
        check_model(paths);
        return "";
    } catch (const std::exception & e) {
        return one_line(e.what());
    }
}

int main(int argc, char ** argv) {
    // what ggml prints itself says less than the one line that follows
    FILE * errors = fdopen(dup(fileno(stderr)), "w");
    if (errors == nullptr || freopen(NULL_DEVICE, "w", stderr) == nullptr) {
        return 2;
    }
    try {
        const check_options options = parse(argc, argv);
        if (!options.load_only) {
            const gguf_totals totals = check_ggufs(options.paths, options.threads);
            printf("valid: %" PRId64 " tensors, %" PRIu64 " bytes\n", totals.tensors, totals.bytes);
            fflush(stdout);  // the loader may abort
        }
        const std::string why = why_not_loaded(options.paths);
        if (options.load_only && !why.empty()) {
            throw invalid_gguf(options.paths[0] + ": " + why);
        }
        printf("%s%s\n", why.empty() ? "loads" : "does not load: ", why.c_str());
        return 0;
    } catch (const std::exception & e) {
        fprintf(errors, "error: %s\n", one_line(e.what()).c_str());
        // 2: what says nothing of the files, such as too little memory
        return dynamic_cast<const invalid_gguf *>(&e) != nullptr ? 1 : 2;
    }
}
