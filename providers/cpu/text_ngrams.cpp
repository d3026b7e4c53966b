// TfIdfVectorizer: counts of the n-grams of a pool.
#include <algorithm>
#include <unordered_map>

#include "ops/text.h"
#include "providers/cpu/support/parallel.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

// The n-grams of the pool as a tree: an edge for each token, and at a node the n-gram that ends there.
template <typename Token>
struct Tree {
  struct Node {
    std::unordered_map<Token, int32_t> next;
    int64_t gram = -1;
  };
  std::vector<Node> nodes{1};

  int32_t child(int32_t node, const Token& token) {
    const auto [place, added] =
        nodes[static_cast<size_t>(node)].next.emplace(token, static_cast<int32_t>(nodes.size()));
    const int32_t result = place->second;
    if (added) nodes.emplace_back();
    return result;
  }
  // kNone when there is no such edge.
  int32_t find(int32_t node, const Token& token) const {
    const auto& next = nodes[static_cast<size_t>(node)].next;
    const auto found = next.find(token);
    return found == next.end() ? kNone : found->second;
  }
};

struct Grams {
  int64_t shortest, longest, skips, columns;
  std::vector<int64_t> column;  // of the output, by n-gram
  std::vector<float> weight;    // by column
  bool weighted, counted;       // IDF: not counted
};

// The pool lists all 1-grams, then all 2-grams, ...; ngram_counts says where each of these begins.
template <typename Token>
Tree<Token> make_tree(PrepareContext& ctx, const Grams& grams, const std::vector<Token>& pool,
                      const std::vector<int64_t>& begins) {
  Tree<Token> tree;
  int64_t gram = 0;
  for (size_t i = 0; i < begins.size(); ++i) {
    const int64_t length = static_cast<int64_t>(i) + 1, begin = begins[i];
    const int64_t end = i + 1 < begins.size() ? begins[i + 1] : static_cast<int64_t>(pool.size());
    ctx.expect(
        begin >= 0 && begin <= end && end <= static_cast<int64_t>(pool.size()) && (end - begin) % length == 0,
        "attribute 'ngram_counts' " + to_string(begins),
        "ascending positions in a pool of " + std::to_string(pool.size()) + " whole n-grams");
    for (int64_t at = begin; at < end; at += length, ++gram) {
      if (length < grams.shortest || length > grams.longest) continue;
      int32_t node = 0;
      for (int64_t t = at; t < at + length; ++t) node = tree.child(node, pool[static_cast<size_t>(t)]);
      tree.nodes[static_cast<size_t>(node)].gram = gram;
    }
  }
  ctx.expect(gram == static_cast<int64_t>(grams.column.size()), "length of attribute 'ngram_indexes'",
             std::to_string(gram) + ", the n-grams of the pool", std::to_string(grams.column.size()));
  return tree;
}

template <typename Token, typename In>
void count_row(const Grams& grams, const Tree<Token>& tree, const In* in, int64_t n, float* out) {
  for (int64_t distance = 1; distance - 1 <= grams.skips; ++distance) {
    // A single token has nothing to skip: it is counted once.
    const int64_t shortest = distance == 1 ? grams.shortest : std::max<int64_t>(grams.shortest, 2);
    if (shortest > grams.longest || distance > std::max<int64_t>(n, 1)) return;
    for (int64_t start = 0; start < n; ++start) {
      int32_t node = 0;
      for (int64_t length = 1, at = start; length <= grams.longest && at < n; ++length, at += distance) {
        node = tree.find(node, in[at]);
        if (node == kNone) break;
        const int64_t gram = tree.nodes[static_cast<size_t>(node)].gram;
        if (gram >= 0 && length >= shortest) out[grams.column[static_cast<size_t>(gram)]] += 1;
      }
    }
  }
}

template <typename Token, typename In>
Prepared count(Grams grams, Tree<Token> tree, int64_t rows, int64_t n) {
  return [=, grams = std::move(grams), tree = std::move(tree)](RunContext& run) {
    const In* in = run.in<In>(0);
    float* out = run.out<float>(0);
    parallel_for(
        rows, grain_for(static_cast<double>(n) * 60 + static_cast<double>(grams.columns)),
        [&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) {
            float* to = out + row * grams.columns;
            std::fill(to, to + grams.columns, 0.0f);
            count_row(grams, tree, in + row * n, n, to);
            if (!grams.weighted) continue;
            for (int64_t c = 0; c < grams.columns; ++c)
              to[c] = (grams.counted ? to[c] : to[c] > 0 ? 1 : 0) * grams.weight[static_cast<size_t>(c)];
          }
        });
  };
}

Prepared prepare_tf_idf_vectorizer(PrepareContext& ctx) {
  auto a = ctx.attributes<TfIdfVectorizerAttributes>();
  const Dims& in = ctx.dims(0);
  ctx.expect(in.size() <= 2, "rank of the input", "1 or 2", std::to_string(in.size()));
  ctx.expect(a.ngram_indexes && !a.ngram_indexes->empty(), "attribute 'ngram_indexes'", "1 or more indices");
  Grams grams{a.min_gram_length.value_or(0),
              a.max_gram_length.value_or(0),
              a.max_skip_count.value_or(-1),
              0,
              *a.ngram_indexes,
              {},
              false,
              false};
  ctx.expect(grams.shortest >= 1 && grams.longest >= grams.shortest,
             "attributes 'min_gram_length' and 'max_gram_length'", "1 <= min <= max",
             std::to_string(grams.shortest) + " and " + std::to_string(grams.longest));
  ctx.expect(grams.skips >= 0, "attribute 'max_skip_count'", "0 or more", std::to_string(grams.skips));
  const std::string mode = a.mode.value_or("");
  ctx.expect(mode == "TF" || mode == "IDF" || mode == "TFIDF", "attribute 'mode'", "TF, IDF or TFIDF", mode);
  for (int64_t column : grams.column) {
    ctx.expect(column >= 0, "attribute 'ngram_indexes'", "indices >= 0", std::to_string(column));
    grams.columns = std::max(grams.columns, checked_add(column, 1, "columns of TfIdfVectorizer"));
  }
  const int64_t rows = in.size() == 2 ? in[0] : 1, n = in.empty() ? 1 : in.back();
  Dims dims = in.size() == 2 ? Dims{rows, grams.columns} : Dims{grams.columns};
  element_count(dims);
  grams.weighted = mode != "TF";
  grams.counted = mode != "IDF";
  if (grams.weighted) {
    // Weights are of n-grams; columns that no n-gram has stay 0 anyway.
    constexpr int64_t most = int64_t{1} << 28;
    if (grams.columns > most)
      throw LimitError("columns of TfIdfVectorizer", "at most " + std::to_string(most),
                       std::to_string(grams.columns));
    grams.weight.assign(static_cast<size_t>(grams.columns), 1.0f);
    if (a.weights) {
      ctx.expect(a.weights->size() == grams.column.size(), "length of attribute 'weights'",
                 std::to_string(grams.column.size()), std::to_string(a.weights->size()));
      for (size_t i = 0; i < grams.column.size(); ++i)
        grams.weight[static_cast<size_t>(grams.column[i])] = (*a.weights)[i];
    }
  }
  const auto begins = a.ngram_counts.value_or(std::vector<int64_t>{});
  const DType dtype = ctx.dtype(0);
  ctx.expect(a.pool_strings.has_value() != a.pool_int64s.has_value(),
             "attributes 'pool_strings' and 'pool_int64s'", "one of them");
  ctx.expect(a.pool_strings.has_value() == (dtype == DType::String), "type of the input",
             a.pool_strings ? "string" : "int32 or int64", dtype_name(dtype));
  ctx.output(0, DType::Float32, std::move(dims));
  if (a.pool_strings) {
    auto tree = make_tree(ctx, grams, *a.pool_strings, begins);
    return count<std::string, std::string>(std::move(grams), std::move(tree), rows, n);
  }
  auto tree = make_tree(ctx, grams, *a.pool_int64s, begins);
  if (dtype == DType::Int32) return count<int64_t, int32_t>(std::move(grams), std::move(tree), rows, n);
  return count<int64_t, int64_t>(std::move(grams), std::move(tree), rows, n);
}

}  // namespace

void register_text_ngrams(KernelRegistry& registry) {
  registry.ref("TfIdfVectorizer", prepare_tf_idf_vectorizer);
}

}  // namespace sardonyx::cpu
