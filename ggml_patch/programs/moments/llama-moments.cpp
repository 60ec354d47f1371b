// Second moments of what flows into a model's weights: what error feedback rounds them by.

#include "arg.h"
#include "common.h"
#include "llama.h"
#include "log.h"
#include "moment-checkpoint.h"
#include "moment-collector.h"
#include "moment-file.h"
#include "moment-runner.h"
#include "moment-texts.h"

#include <algorithm>
#include <chrono>
#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>

static void print_usage(int, char ** argv) {
    printf(
        "usage: %s -m model.gguf -f text.txt [-f other.txt ...] -o OUT.stats [options]\n"
        "\n"
        "  -f, --file FILE        text to run, or conversations in .jsonl; may be repeated, each counts alike\n"
        "  --self                 text that the model writes itself, at temperature 1, beside others or alone\n"
        "  --weight X             of the text before: of its tokens, beside those of the others (default: 1)\n"
        "  --tokens N             most tokens to run, over all texts (default: 32768)\n"
        "  -c N                   tokens of a sequence, marks such as BOS included (default: 512)\n"
        "  -b N                   tokens run at a time: several sequences where it is a multiple of -c (default: -c)\n"
        "  --memory MB            for sums of moments at a time; less takes more passes over the text (default: 4096)\n"
        "  --process-output       also measure the input of the output layer\n"
        "  --save-every SECONDS   between checkpoints, for --resume after a kill (default: 900)\n"
        "  --resume               go on from the checkpoint of an interrupted run, where there is one\n"
        "  --fingerprint TEXT     tells the model, for who reads the file\n"
        "  --log                  print llama.cpp's own messages\n"
        "\n"
        "and those of llama.cpp: -t, -ngl, --device, --override-kv, --parse-special, ... (see llama-imatrix --help)\n",
        argv[0]);
}

// Options of our own; the others are llama.cpp's.
struct moment_options {
    std::vector<moment_text> texts;
    int64_t                  tokens     = 32768;
    int64_t                  memory_mb  = 4096;
    int64_t                  save_every = 900;
    bool                     resume     = false;
    bool                     log        = false;
    std::string              fingerprint;
};

static int64_t positive(const std::string & option, const std::string & text, int64_t least) {
    char *          end    = nullptr;
    const long long number = strtoll(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || number < least) {
        throw std::runtime_error(option + " is a number of at least " + std::to_string(least) + ", not '" + text + "'");
    }
    return number;
}

// Takes our own options out of the arguments.
static moment_options take_options(int argc, char ** argv, std::vector<char *> & others) {
    moment_options options;
    for (int i = 0; i < argc; i++) {
        const std::string word  = argv[i];
        const auto        value = [&]() -> std::string {
            if (i + 1 >= argc) {
                throw std::runtime_error(word + " needs a value");
            }
            return argv[++i];
        };
        if (word == "-f" || word == "--file") {
            options.texts.push_back({ value() });
        } else if (word == "--self") {
            options.texts.push_back({ "" });
        } else if (word == "--weight") {
            const std::string text   = value();
            char *            end    = nullptr;
            const double      number = strtod(text.c_str(), &end);
            if (options.texts.empty() || *end != '\0' || !(number > 0) || !std::isfinite(number)) {
                throw std::runtime_error("--weight is a number above 0 after the text that it is for, not '" + text +
                                         "'");
            }
            options.texts.back().weight = number;
        } else if (word == "--tokens") {
            options.tokens = positive(word, value(), 1);
        } else if (word == "--memory") {
            options.memory_mb = positive(word, value(), 1);
        } else if (word == "--save-every") {
            options.save_every = positive(word, value(), 0);
        } else if (word == "--fingerprint") {
            options.fingerprint = value();
        } else if (word == "--resume") {
            options.resume = true;
        } else if (word == "--log") {
            options.log = true;
        } else {
            others.push_back(argv[i]);
        }
    }
    return options;
}

// What llama.cpp said first of what went wrong, in one line: what it says later follows from it.
static std::string first_error;

static void remember_errors(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR && first_error.empty()) {
        first_error = text;
        first_error.erase(first_error.find_last_not_of("\n") + 1);
        std::replace(first_error.begin(), first_error.end(), '\n', ' ');
    }
}

// The last inputs of each pass: as many as fit into the memory, one at least.
static std::vector<size_t> split_into_passes(const std::vector<moment_input> & inputs, int64_t memory) {
    std::vector<size_t> ends;
    int64_t             held = 0;
    for (size_t i = 0; i < inputs.size(); i++) {
        if (held > 0 && held + inputs[i].nbytes() > memory) {
            ends.push_back(i);
            held = 0;
        }
        held += inputs[i].nbytes();
    }
    ends.push_back(inputs.size());
    return ends;
}

static uint64_t hash_of(const std::vector<token_sequence> & sequences) {
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (const token_sequence & sequence : sequences) {
        for (const llama_token token : sequence) {
            hash = (hash ^ (uint32_t) token) * 1099511628211u;
        }
        hash = (hash ^ 0xffffffffu) * 1099511628211u;
    }
    return hash;
}

// One line on what was run.
static std::string describe(const moment_options &              options,
                            const common_params &               params,
                            const std::vector<token_sequence> & sequences,
                            int64_t                             length,
                            double                              perplexity) {
    std::string said;
    for (const moment_text & text : options.texts) {
        said += said.empty() ? "" : " + ";
        said += text.path.empty() ? "self" : std::filesystem::path(text.path).filename().string();
        if (text.weight != 1) {
            char weight[32];
            snprintf(weight, sizeof(weight), ":%g", text.weight);
            said += weight;
        }
    }
    said += ", " + std::to_string(sequences.size()) + " sequences of " + std::to_string(length) + " tokens";
    if (perplexity > 0) {
        char text[64];
        snprintf(text, sizeof(text), ", perplexity %.2f on the first", perplexity);
        said += text;
    }
    for (const llama_model_kv_override & override : params.kv_overrides) {
        if (override.key[0] != '\0') {
            said += std::string(", other ") + override.key;
        }
    }
    return said;
}

static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Runs all sequences once for each pass, and writes what each has measured.
static void measure(const moment_options &              options,
                    const std::vector<token_sequence> & sequences,
                    const std::vector<size_t> &         passes,
                    const moment_head &                 head,
                    moment_runner &                     runner,
                    moment_collector &                  collector,
                    const std::string &                 output) {
    const auto & inputs   = collector.inputs();
    std::string  identity = head.fingerprint + " " + head.description + " " + std::to_string(hash_of(sequences)) + " " +
                            std::to_string(runner.sequences_per_batch());
    for (const size_t end : passes) {
        identity += " " + inputs[end - 1].key;
    }
    moment_checkpoint checkpoint(output, identity);
    moment_position   position;
    if (options.resume) {
        position = checkpoint.open();
    } else {
        checkpoint.remove();
    }
    moment_file file(output, head, inputs, position.written);

    const auto   started = std::chrono::steady_clock::now();
    auto         saved   = started;
    const size_t total   = passes.size() * sequences.size(),
                 before  = position.pass * sequences.size() + position.sequence;
    for (size_t p = position.pass; p < passes.size(); p++) {
        const size_t first = p > 0 ? passes[p - 1] : 0;
        collector.measure(first, passes[p]);
        size_t s = checkpoint.load(collector) ? position.sequence : 0;
        while (s < sequences.size()) {
            s                 = runner.run(sequences, s, collector);
            const size_t done = p * sequences.size() + s;
            const double each = seconds_since(started) / (double) (done - before);
            printf("sequence %zu/%zu, %.2f s each, %.0f s left\n", done, total, each, each * (double) (total - done));
            fflush(stdout);
            if (seconds_since(saved) >= (double) options.save_every) {
                file.flush();
                checkpoint.save({ p, s, file.written() }, collector);
                file.keep();
                saved = std::chrono::steady_clock::now();
            }
        }
        for (size_t i = first; i < passes[p]; i++) {
            file.write(inputs[i], collector.finished(i));
        }
    }
    file.commit();
    checkpoint.remove();
}

static void run(const moment_options & options, common_params & params, moment_collector & collector) {
    const auto    init  = common_init_from_params(params);
    llama_model * model = init->model();
    if (model == nullptr || init->context() == nullptr) {
        throw std::runtime_error("llama.cpp cannot load it");
    }
    const int64_t length    = params.n_ctx / params.n_parallel;
    const auto    sequences = token_sequences(model, params, options.texts, options.tokens, length);
    moment_runner runner(init->context(), params.n_batch, length);

    if (llama_model_has_encoder(model)) {
        collector.compute_output();
    }
    // the first batch shows what there is to measure
    runner.run(sequences, 0, collector);
    if (collector.inputs().empty()) {
        throw std::runtime_error("the model has no matrices that can be measured");
    }
    moment_head head = { options.fingerprint, 0, describe(options, params, sequences, length, runner.perplexity()) };
    for (const token_sequence & sequence : sequences) {
        head.tokens += sequence.size();
    }
    const auto passes = split_into_passes(collector.inputs(), options.memory_mb * 1000000);
    measure(options, sequences, passes, head, runner, collector, params.out_file);
    printf("%s: %zu inputs; %s\n", params.out_file.c_str(), collector.inputs().size(), head.description.c_str());
}

int main(int argc, char ** argv) {
    std::setlocale(LC_NUMERIC, "C");
    try {
        std::vector<char *>  others;
        const moment_options options = take_options(argc, argv, others);

        common_params params;
        params.n_ctx    = 512;
        params.n_batch  = 0;
        params.escape   = false;
        params.warmup   = false;
        params.out_file = "";
        common_init();
        if (!common_params_parse((int) others.size(), others.data(), params, LLAMA_EXAMPLE_IMATRIX, print_usage)) {
            return 1;
        }
        if (options.texts.empty() || params.out_file.empty()) {
            throw std::runtime_error("give a text with -f or --self, and the file to write with -o");
        }
        if (params.n_ctx < 8) {
            throw std::runtime_error("sequences must have at least 8 tokens (-c)");
        }
        params.n_batch    = std::max(params.n_batch, params.n_ctx);
        params.n_parallel = params.n_batch / params.n_ctx;
        params.n_ctx *= params.n_parallel;
        params.n_batch      = params.n_ctx;
        params.n_ubatch     = params.n_batch;
        params.pooling_type = LLAMA_POOLING_TYPE_NONE;
        if (!options.log) {
            llama_log_set(remember_errors, nullptr);
            common_log_set_verbosity_thold(-1);
        }
        llama_backend_init();
        llama_numa_init(params.numa);
        const int threads =
            params.cpuparams_batch.n_threads > 0 ? params.cpuparams_batch.n_threads : params.cpuparams.n_threads;
        moment_collector collector(threads, params.process_output);
        params.cb_eval           = moment_collector::callback;
        params.cb_eval_user_data = &collector;
        run(options, params, collector);
        llama_backend_free();
        return 0;
    } catch (const std::exception & e) {
        // what llama.cpp has said before goes with what it cannot do
        const bool has_reason = strncmp(e.what(), "llama.cpp cannot", 16) == 0 && !first_error.empty();
        fprintf(stderr, "error: %s%s%s\n", e.what(), has_reason ? ": " : "", has_reason ? first_error.c_str() : "");
        return 1;
    }
}
