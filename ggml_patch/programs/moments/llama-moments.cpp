// Second moments of what flows into a model's weights: what error feedback rounds them by.

#include "arg.h"
#include "common.h"
#include "llama.h"
#include "log.h"
#include "moment-collector.h"
#include "moment-file.h"
#include "moment-texts.h"

#include <algorithm>
#include <chrono>
#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
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

// Runs sequences through a model.
class moment_runner {
  public:
    moment_runner(llama_context * ctx, int64_t n_batch, int64_t length)
        : ctx(ctx), model(llama_get_model(ctx)), per_batch((size_t) std::max<int64_t>(1, n_batch / length)),
          batch(llama_batch_init((int32_t) (per_batch * length), 0, 1)) {}

    ~moment_runner() { llama_batch_free(batch); }

    size_t sequences_per_batch() const { return per_batch; }

    // Sequences from `start` on, as many as run at a time; returns the end of them. Throws std::runtime_error.
    size_t run(const std::vector<token_sequence> & sequences, size_t start, moment_collector & collector) {
        const size_t end = std::min(start + per_batch, sequences.size());
        collector.begin_batch();
        if (llama_model_has_encoder(model)) {
            fill(sequences, start, end, false);
            collector.begin_graph();
            check(llama_encode(ctx, batch), collector);
        }
        if (llama_model_has_decoder(model)) {
            if (llama_memory_t memory = llama_get_memory(ctx)) {
                llama_memory_clear(memory, true);
            }
            fill(sequences, start, end, llama_model_has_encoder(model));
            collector.begin_graph();
            check(llama_decode(ctx, batch), collector);
        }
        return end;
    }

    // Of what was run last, whole; 0 for models that predict nothing, which have no memory of what came before.
    double perplexity() const {
        if (!llama_model_has_decoder(model) || llama_get_memory(ctx) == nullptr) {
            return 0;
        }
        const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
        double    sum = 0, count = 0;
        for (int32_t i = 0; i + 1 < batch.n_tokens; i++) {
            if (batch.seq_id[i][0] != batch.seq_id[i + 1][0]) {
                continue;
            }
            const float * logits = llama_get_logits_ith(ctx, i);
            double        most = logits[0], total = 0;
            for (int v = 1; v < n_vocab; v++) {
                most = std::max<double>(most, logits[v]);
            }
            for (int v = 0; v < n_vocab; v++) {
                total += std::exp(logits[v] - most);
            }
            sum += most + std::log(total) - logits[batch.token[i + 1]];
            count++;
        }
        return count > 0 ? std::exp(sum / count) : 0;
    }

  private:
    // A decoder after an encoder is shown the same text, one token later.
    void fill(const std::vector<token_sequence> & sequences, size_t start, size_t end, bool shifted) {
        batch.n_tokens = 0;
        for (size_t s = start; s < end; s++) {
            for (size_t i = 0; i < sequences[s].size(); i++) {
                llama_token token = sequences[s][i];
                if (shifted) {
                    token = i > 0 ? sequences[s][i - 1] : llama_model_decoder_start_token(model);
                    token = token == LLAMA_TOKEN_NULL ? llama_vocab_bos(llama_model_get_vocab(model)) : token;
                }
                // outputs everywhere, or else the last block would run for some tokens alone
                const int32_t row    = batch.n_tokens++;
                batch.token[row]     = token;
                batch.pos[row]       = (llama_pos) i;
                batch.n_seq_id[row]  = 1;
                batch.seq_id[row][0] = (llama_seq_id) (s - start);
                batch.logits[row]    = 1;
            }
        }
    }

    static void check(int32_t status, const moment_collector & collector) {
        collector.check();
        if (status != 0) {
            throw std::runtime_error("llama.cpp cannot run the text (status " + std::to_string(status) +
                                     (first_error.empty() ? ")" : "): " + first_error));
        }
    }

    llama_context *     ctx;
    const llama_model * model;
    size_t              per_batch;
    llama_batch         batch;
};

// Where an interrupted run stood.
struct moment_position {
    uint64_t pass = 0, sequence = 0;
    int64_t  written = 0;
};

static void write_string(std::ofstream & stream, const std::string & text) {
    const uint64_t size = text.size();
    stream.write((const char *) &size, sizeof(size));
    stream.write(text.data(), (std::streamsize) size);
}

static void save_checkpoint(const std::string &      path,
                            const std::string &      identity,
                            const moment_position &  position,
                            const moment_collector & collector) {
    const std::string partial = path + ".part";
    std::ofstream     stream(partial, std::ios::binary);
    write_string(stream, identity);
    stream.write((const char *) &position, sizeof(position));
    collector.save([&](const void * data, size_t size) { stream.write((const char *) data, (std::streamsize) size); });
    stream.close();
    std::error_code reason;
    if (stream) {
        std::filesystem::rename(partial, path, reason);
    }
    if (!stream || reason) {
        remove(partial.c_str());
        throw std::runtime_error("the checkpoint " + path + " cannot be written");
    }
}

// Opens a checkpoint and reads where the run stood; the sums come after. Throws std::runtime_error.
static moment_position open_checkpoint(std::ifstream & stream, const std::string & path, const std::string & identity) {
    uint64_t        size = 0;
    moment_position position;
    std::string     found(identity.size(), '\0');
    stream.open(path, std::ios::binary);
    stream.read((char *) &size, sizeof(size));
    if (size == identity.size()) {
        stream.read(&found[0], (std::streamsize) size);
    }
    if (size != identity.size() || found != identity) {
        throw std::runtime_error("the checkpoint " + path +
                                 " is of another model, text or options; leave --resume out to start anew");
    }
    stream.read((char *) &position, sizeof(position));
    return position;
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

static void run(const moment_options & options, common_params & params) {
    const auto init  = common_init_from_params(params);
    auto *     model = init->model();
    auto *     ctx   = init->context();
    if (model == nullptr || ctx == nullptr) {
        throw std::runtime_error("llama.cpp cannot load it: " +
                                 (first_error.empty() ? "--log shows why" : first_error));
    }
    moment_collector & collector = *(moment_collector *) params.cb_eval_user_data;
    const int64_t      length    = params.n_ctx / params.n_parallel;
    const auto         sequences = token_sequences(model, params, options.texts, options.tokens, length);
    moment_runner      runner(ctx, params.n_batch, length);

    // the first batch shows what there is to measure
    runner.run(sequences, 0, collector);
    const double perplexity = runner.perplexity();
    const auto & inputs     = collector.inputs();
    if (inputs.empty()) {
        throw std::runtime_error("the model has no matrices that can be measured");
    }
    moment_head head = { options.fingerprint, 0, "" };
    for (const token_sequence & sequence : sequences) {
        head.tokens += sequence.size();
    }
    for (const moment_text & text : options.texts) {
        head.description += head.description.empty() ? "" : " + ";
        head.description += text.path.empty() ? "self" : std::filesystem::path(text.path).filename().string();
        if (text.weight != 1) {
            char weight[32];
            snprintf(weight, sizeof(weight), ":%g", text.weight);
            head.description += weight;
        }
    }
    head.description += ", " + std::to_string(sequences.size()) + " sequences of " + std::to_string(length) + " tokens";
    if (perplexity > 0) {
        char text[64];
        snprintf(text, sizeof(text), ", perplexity %.2f on the first", perplexity);
        head.description += text;
    }

    for (const llama_model_kv_override & override : params.kv_overrides) {
        if (override.key[0] != '\0') {
            head.description += std::string(", other ") + override.key;
        }
    }

    const std::vector<size_t> passes     = split_into_passes(inputs, options.memory_mb * 1000000);
    const std::string         checkpoint = params.out_file + ".checkpoint";
    std::string identity = head.fingerprint + " " + head.description + " " + std::to_string(hash_of(sequences)) + " " +
                           std::to_string(runner.sequences_per_batch());
    for (const size_t end : passes) {
        identity += " " + inputs[end - 1].key;
    }
    std::ifstream   interrupted;
    moment_position position;
    if (options.resume && std::filesystem::exists(checkpoint)) {
        position = open_checkpoint(interrupted, checkpoint, identity);
    } else {
        remove(checkpoint.c_str());
    }
    moment_file file(params.out_file, head, inputs, position.written);

    using clock        = std::chrono::steady_clock;
    const auto seconds = [](clock::time_point from) {
        return std::chrono::duration<double>(clock::now() - from).count();
    };
    const auto started  = clock::now();
    auto       saved    = clock::now();
    size_t     done     = position.pass * sequences.size() + position.sequence;
    const auto skipped  = done;
    const auto in_total = passes.size() * sequences.size();
    for (size_t p = position.pass; p < passes.size(); p++) {
        const size_t first = p > 0 ? passes[p - 1] : 0;
        collector.measure(first, passes[p]);
        size_t s = 0;
        if (interrupted.is_open()) {
            collector.load([&](void * data, size_t size) {
                if (!interrupted.read((char *) data, (std::streamsize) size)) {
                    throw std::runtime_error("the checkpoint " + checkpoint +
                                             " is damaged; leave --resume out to start anew");
                }
            });
            interrupted.close();
            s = position.sequence;
        }
        while (s < sequences.size()) {
            const size_t end = runner.run(sequences, s, collector);
            done += end - s;
            s                 = end;
            const double each = seconds(started) / (double) (done - skipped);
            printf("sequence %zu/%zu, %.2f s each, %.0f s left\n", done, in_total, each,
                   each * (double) (in_total - done));
            fflush(stdout);
            if (seconds(saved) >= (double) options.save_every) {
                file.flush();
                save_checkpoint(checkpoint, identity, { p, s, file.written() }, collector);
                file.keep();
                saved = clock::now();
            }
        }
        for (size_t i = first; i < passes[p]; i++) {
            file.write(inputs[i], collector.finished(i));
        }
    }
    file.commit();
    remove(checkpoint.c_str());
    printf("%s: %zu inputs; %s\n", params.out_file.c_str(), inputs.size(), head.description.c_str());
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
        moment_collector collector(threads, params.process_output, true);
        params.cb_eval           = moment_collector::callback;
        params.cb_eval_user_data = &collector;
        run(options, params);
        llama_backend_free();
        return 0;
    } catch (const std::exception & e) {
        fprintf(stderr, "error: %s\n", e.what());
        return 1;
    }
}
