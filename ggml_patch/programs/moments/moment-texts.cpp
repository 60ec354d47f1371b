#include "moment-texts.h"

#include "common.h"

#include <algorithm>
#include <fstream>
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

std::vector<token_sequence> token_sequences(const llama_vocab *              vocab,
                                            const std::vector<std::string> & files,
                                            int64_t                          tokens,
                                            int64_t                          length,
                                            bool                             parse_special) {
    token_sequence before, after;
    find_marks(vocab, before, after);
    const int64_t payload = length - (int64_t) (before.size() + after.size());
    if (payload < 1) {
        throw std::runtime_error("sequences of " + std::to_string(length) + " tokens leave no room for text");
    }
    std::vector<token_sequence> texts;
    size_t                      total = 0;
    for (const std::string & file : files) {
        texts.push_back(common_tokenize(vocab, read_text(file), false, parse_special));
        total += texts.back().size();
    }
    if (total < LEAST_TOKENS) {
        throw std::runtime_error("the text has only " + std::to_string(total) +
                                 " tokens, too few for any statistics; give a longer one");
    }
    // what short texts leave is shared by the others, so they come first
    std::vector<size_t> by_length(texts.size());
    std::iota(by_length.begin(), by_length.end(), 0);
    std::sort(by_length.begin(), by_length.end(),
              [&](size_t a, size_t b) { return texts[a].size() < texts[b].size(); });
    std::vector<int64_t> wanted(texts.size());
    int64_t              left = std::max<int64_t>((int64_t) texts.size(), tokens / length);
    for (size_t i = 0; i < by_length.size(); i++) {
        // a text shorter than a sequence is one by itself
        const int64_t pieces = std::max<int64_t>(1, (int64_t) texts[by_length[i]].size() / payload);
        wanted[by_length[i]] = std::min(pieces, left / (int64_t) (by_length.size() - i));
        left -= wanted[by_length[i]];
    }
    std::vector<token_sequence> sequences;
    for (size_t f = 0; f < texts.size(); f++) {
        const int64_t pieces = std::max<int64_t>(1, (int64_t) texts[f].size() / payload);
        for (int64_t i = 0; i < wanted[f]; i++) {
            // the middle one of each of as many equal stretches
            const int64_t  start    = (2 * i + 1) * pieces / (2 * wanted[f]) * payload;
            const int64_t  end      = std::min<int64_t>(start + payload, (int64_t) texts[f].size());
            token_sequence sequence = before;
            sequence.insert(sequence.end(), texts[f].begin() + start, texts[f].begin() + end);
            sequence.insert(sequence.end(), after.begin(), after.end());
            sequences.push_back(sequence);
        }
    }
    return sequences;
}
