// Attributes of the operators on strings.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/attributes.h"

namespace sardonyx {

struct StringNormalizerAttributes {
  std::string case_change_action = "NONE";
  int64_t is_case_sensitive = 0;
  std::optional<std::string> locale;
  std::optional<std::vector<std::string>> stopwords;
  template <class V>
  void visit(V&& v) {
    v("case_change_action", case_change_action);
    v("is_case_sensitive", is_case_sensitive);
    v("locale", locale);
    v("stopwords", stopwords);
  }
};
struct StringSplitAttributes {
  std::optional<std::string> delimiter;
  std::optional<int64_t> maxsplit;
  template <class V>
  void visit(V&& v) {
    v("delimiter", delimiter);
    v("maxsplit", maxsplit);
  }
};
struct RegexFullMatchAttributes {
  std::optional<std::string> pattern;
  template <class V>
  void visit(V&& v) {
    v("pattern", pattern);
  }
};
struct TfIdfVectorizerAttributes {
  std::optional<int64_t> max_gram_length, max_skip_count, min_gram_length;
  std::optional<std::string> mode;
  std::optional<std::vector<int64_t>> ngram_counts, ngram_indexes, pool_int64s;
  std::optional<std::vector<std::string>> pool_strings;
  std::optional<std::vector<float>> weights;
  template <class V>
  void visit(V&& v) {
    v("max_gram_length", max_gram_length);
    v("max_skip_count", max_skip_count);
    v("min_gram_length", min_gram_length);
    v("mode", mode);
    v("ngram_counts", ngram_counts);
    v("ngram_indexes", ngram_indexes);
    v("pool_int64s", pool_int64s);
    v("pool_strings", pool_strings);
    v("weights", weights);
  }
};

}  // namespace sardonyx
