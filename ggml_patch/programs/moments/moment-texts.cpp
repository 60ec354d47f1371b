#include "moment-texts.h"

#include "chat.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>
#include <stdexcept>

// Fewer say nothing about a model.
static const size_t LEAST_TOKENS = 256;

// The marks before and after a text, by tokens of a short one with and without them.
static void find_marks(const llama_vocab * vocab, token_sequence & before, token_sequence & after) {
    const token_sequence plain  = common_tokenize(vocab, "a", false, false),
                         marked = common_tokenize(vocab, "a", true, false);
    const auto           start  = std::search(marked.begin(), marked.end(), plain.begin(), plain.end());
    if (start != marked.end()) {
        before.assign(marked.begin(), start);
        after.assign(start + (int64_t) plain.size(), marked.end());
    }
}

static std::string read_text(const std::string & file) {
    std::ifstream      stream(file, std::ios::binary);
    std::ostringstream text;
    if (!stream || !(text << stream.rdbuf())) {
        throw std::runtime_error("the text " + file + " cannot be read, or is empty");
    }
    return text.str();
}

// One line of a file of conversations: {"messages": [{"role": ..., "content": ...}, ...]}, or with "conversations",
// "from" and "value", or such a list by itself.
static std::vector<common_chat_msg> read_conversation(const std::string & line) {
    static const std::map<std::string, std::string> roles = { { "human", "user" }, { "gpt", "assistant" } };

    nlohmann::json list = nlohmann::json::parse(line);
    for (const char * key : { "messages", "conversations" }) {
        if (list.is_object() && list.contains(key)) {
            list = nlohmann::json(list[key]);
        }
    }
    std::vector<common_chat_msg> messages;
    for (const nlohmann::json & one : list) {
        common_chat_msg message;
        message.role    = one.contains("role") ? one.at("role") : one.at("from");
        message.content = one.contains("content") ? one.at("content") : one.at("value");
        if (auto known = roles.find(message.role); known != roles.end()) {
            message.role = known->second;
        }
        messages.push_back(message);
    }
    if (messages.empty()) {
        throw std::invalid_argument("there is no message");
    }
    return messages;
}

static token_sequence conversation_tokens(const llama_model * model, const std::string & file) {
    const auto templates = common_chat_templates_init(model, "");
    if (!common_chat_templates_was_explicit(templates.get())) {
        throw std::runtime_error("the model has no chat template, which " + file + " needs; give chats as plain text");
    }
    std::istringstream lines(read_text(file));
    std::string        line;
    token_sequence     all;
    for (size_t number = 1; std::getline(lines, line); number++) {
        if (line.find_first_not_of(" \t\r") == std::string::npos) {
            continue;
        }
        try {
            common_chat_templates_inputs inputs;
            inputs.messages              = read_conversation(line);
            inputs.add_generation_prompt = false;

            const std::string    text = common_chat_templates_apply(templates.get(), inputs).prompt;
            const token_sequence ids  = common_tokenize(llama_model_get_vocab(model), text, false, true);
            all.insert(all.end(), ids.begin(), ids.end());
        } catch (const std::exception & e) {
            throw std::runtime_error("line " + std::to_string(number) + " of " + file +
                                     " is no conversation of this model: it needs messages with role and content (" +
                                     e.what() + ")");
        }
    }
    return all;
}

static token_sequence text_tokens(const llama_model * model, const std::string & file, bool parse_special) {
    if (string_ends_with(file, ".jsonl")) {
        return conversation_tokens(model, file);
    }
    return common_tokenize(llama_model_get_vocab(model), read_text(file), false, parse_special);
}

// How many of the sequences that a text has are to be run, for each: `wanted` in all, shared by weight; what short texts
// leave is shared by the others.
static std::vector<int64_t> share(int64_t                          wanted,
                                  const std::vector<int64_t> &     pieces,
                                  const std::vector<moment_text> & files) {
    std::vector<size_t> order(pieces.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return (double) pieces[a] / files[a].weight < (double) pieces[b] / files[b].weight;
    });
    double weights = 0;
    for (const moment_text & file : files) {
        weights += file.weight;
    }
    std::vector<int64_t> shares(pieces.size());
    int64_t              left = std::max<int64_t>(wanted, (int64_t) pieces.size());
    for (size_t i = 0; i < order.size(); i++) {
        const size_t  f    = order[i];
        const bool    last = i + 1 == order.size();
        const int64_t mine = last ? left : (int64_t) ((double) left * files[f].weight / weights);
        shares[f]          = std::min(pieces[f], std::max<int64_t>(1, mine));
        left -= shares[f];
        weights -= files[f].weight;
    }
    return shares;
}

std::vector<token_sequence> token_sequences(llama_model *                    model,
                                            const common_params &            params,
                                            const std::vector<moment_text> & files,
                                            int64_t                          tokens,
                                            int64_t                          length) {
    token_sequence before, after;
    find_marks(llama_model_get_vocab(model), before, after);
    const int64_t payload = length - (int64_t) (before.size() + after.size());
    if (payload < 1) {
        throw std::runtime_error("sequences of " + std::to_string(length) + " tokens leave no room for text");
    }
    std::vector<token_sequence> texts;
    std::vector<int64_t>        pieces;
    size_t                      total = 0;
    for (const moment_text & file : files) {
        const bool is_own = file.path.empty();
        texts.push_back(is_own ? token_sequence() : text_tokens(model, file.path, params.parse_special));
        total += is_own ? LEAST_TOKENS : texts.back().size();
        // a text shorter than a sequence is one by itself
        const int64_t whole = is_own ? tokens / length : (int64_t) texts.back().size() / payload;
        pieces.push_back(std::max<int64_t>(1, whole));
    }
    if (total < LEAST_TOKENS) {
        throw std::runtime_error("the text has only " + std::to_string(total) +
                                 " tokens, too few for any statistics; give a longer one");
    }
    const std::vector<int64_t>  shares = share(tokens / length, pieces, files);
    std::vector<token_sequence> sequences;
    for (size_t f = 0; f < texts.size(); f++) {
        if (files[f].path.empty()) {
            const auto own = write_own_text(model, params, shares[f], length);
            sequences.insert(sequences.end(), own.begin(), own.end());
            continue;
        }
        for (int64_t i = 0; i < shares[f]; i++) {
            // the middle one of each of as many equal stretches
            const int64_t  start    = (2 * i + 1) * pieces[f] / (2 * shares[f]) * payload;
            const int64_t  end      = std::min<int64_t>(start + payload, (int64_t) texts[f].size());
            token_sequence sequence = before;
            sequence.insert(sequence.end(), texts[f].begin() + start, texts[f].begin() + end);
            sequence.insert(sequence.end(), after.begin(), after.end());
            sequences.push_back(sequence);
        }
    }
    return sequences;
}
