// TreeEnsemble, TreeEnsembleRegressor, TreeEnsembleClassifier: one compiled form for all three.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "graph/shape.h"
#include "ops/ml.h"
#include "providers/cpu/ml.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {
namespace {

enum class Mode : uint8_t { LessEqual, Less, GreaterEqual, Greater, Equal, NotEqual, Member, Leaf };
enum class Aggregate { Average, Sum, Min, Max };

// A child is the index of a node, or ~index of a leaf.
struct TreeNode {
  double threshold = 0;
  int64_t feature = 0;
  int32_t on_true = 0, on_false = 0, members = 0;
  Mode mode = Mode::LessEqual;
  bool missing_is_true = false;
};

struct Vote {
  int64_t target;
  double weight;
};

struct Forest {
  std::vector<TreeNode> nodes;
  std::vector<int32_t> roots;
  std::vector<std::pair<size_t, size_t>> leaves;  // ranges of votes
  std::vector<Vote> votes;
  std::vector<std::vector<double>> members;  // sorted sets
  std::vector<double> base;                  // added to each target; empty: zero
  int64_t targets = 1;
  Aggregate aggregate = Aggregate::Sum;

  bool decide(const TreeNode& n, double x) const {
    if (n.missing_is_true && std::isnan(x)) return true;
    switch (n.mode) {
      case Mode::LessEqual:
        return x <= n.threshold;
      case Mode::Less:
        return x < n.threshold;
      case Mode::GreaterEqual:
        return x >= n.threshold;
      case Mode::Greater:
        return x > n.threshold;
      case Mode::Equal:
        return x == n.threshold;
      case Mode::NotEqual:
        return x != n.threshold;
      case Mode::Member: {
        const auto& set = members[static_cast<size_t>(n.members)];
        return std::binary_search(set.begin(), set.end(), x);
      }
      case Mode::Leaf:
        break;
    }
    return false;
  }

  // The aggregated votes for one row of features; `voted` says which targets got any.
  void predict(const double* x, double* scores, uint8_t* voted) const {
    std::fill_n(scores, targets, 0.0);
    std::fill_n(voted, targets, uint8_t{0});
    for (int32_t at : roots) {
      while (at >= 0) {
        const TreeNode& n = nodes[static_cast<size_t>(at)];
        at = decide(n, x[n.feature]) ? n.on_true : n.on_false;
      }
      const auto [begin, end] = leaves[static_cast<size_t>(~at)];
      for (size_t v = begin; v < end; ++v) {
        const auto [target, weight] = votes[v];
        double& score = scores[target];
        if (!voted[target])
          score = weight;
        else if (aggregate == Aggregate::Min)
          score = std::min(score, weight);
        else if (aggregate == Aggregate::Max)
          score = std::max(score, weight);
        else
          score += weight;
        voted[target] = 1;
      }
    }
    for (int64_t t = 0; t < targets; ++t) {
      if (aggregate == Aggregate::Average) scores[t] /= static_cast<double>(roots.size());
      if (!base.empty()) scores[t] += base[static_cast<size_t>(base.size() == 1 ? 0 : t)];
    }
  }
};

// Every node must be reached without a cycle: a walk down a tree then always ends.
void check_acyclic(PrepareContext& ctx, const Forest& forest) {
  std::vector<uint8_t> state(forest.nodes.size(), 0);  // 1: on the path, 2: done
  std::vector<std::pair<int32_t, int>> path;
  for (int32_t root : forest.roots) {
    if (root < 0 || state[static_cast<size_t>(root)] == 2) continue;
    path.assign(1, {root, 0});
    state[static_cast<size_t>(root)] = 1;
    while (!path.empty()) {
      auto& [at, next] = path.back();
      if (next == 2) {
        state[static_cast<size_t>(at)] = 2;
        path.pop_back();
        continue;
      }
      const TreeNode& node = forest.nodes[static_cast<size_t>(at)];
      const int32_t child = next++ == 0 ? node.on_true : node.on_false;
      if (child < 0 || state[static_cast<size_t>(child)] == 2) continue;
      ctx.expect(state[static_cast<size_t>(child)] == 0, "tree of node " + std::to_string(child), "a tree",
                 "a cycle");
      state[static_cast<size_t>(child)] = 1;
      path.emplace_back(child, 0);
    }
  }
}

// Rows of features as doubles.
std::vector<double> features(const Tensor& x) {
  if (x.dtype() != DType::Float16) return numbers(x);
  Tensor wide(DType::Float32, x.dims());
  convert_floats(x.dtype(), x.data(), DType::Float32, wide.mutable_data(), x.size());
  return numbers(wide);
}

// Calls f(row, scores, voted) for each row, from several threads.
template <typename F>
void each_row(const Forest& forest, const Rows& rows, const std::vector<double>& x, F f) {
  const double cost =
      static_cast<double>(forest.roots.size()) * 60 + static_cast<double>(forest.targets) * 4 + 20;
  parallel_for(rows.count, grain_for(cost), [&](int64_t begin, int64_t end) {
    std::vector<double> scores(static_cast<size_t>(std::max<int64_t>(forest.targets, 2)));
    std::vector<uint8_t> voted(scores.size());
    for (int64_t r = begin; r < end; ++r) {
      forest.predict(x.data() + r * rows.features, scores.data(), voted.data());
      f(r, scores.data(), voted.data());
    }
  });
}

void expect_index(PrepareContext& ctx, const char* name, int64_t value, int64_t end) {
  ctx.expect(value >= 0 && value < end, std::string("attribute '") + name + "'",
             "indices from 0 to " + std::to_string(end - 1), std::to_string(value));
}

void expect_count(PrepareContext& ctx, const char* name, size_t got, size_t wanted) {
  ctx.expect(got == wanted, std::string("attribute '") + name + "'", std::to_string(wanted) + " values",
             std::to_string(got));
}

template <typename T>
std::vector<T> list(const std::optional<std::vector<T>>& values) {
  return values.value_or(std::vector<T>());
}

// Floats given as a list or, in double, as a tensor.
std::vector<double> float_list(PrepareContext& ctx, const char* name,
                               const std::optional<std::vector<float>>& floats,
                               const std::optional<Tensor>& tensor) {
  if (tensor) {
    ctx.expect(tensor->dtype() == DType::Float64 || tensor->dtype() == DType::Float32,
               std::string("attribute '") + name + "_as_tensor'", "double", dtype_name(tensor->dtype()));
    return tensor->to_doubles();
  }
  const std::vector<float> values = list(floats);
  return {values.begin(), values.end()};
}

// The trees of TreeEnsembleRegressor and TreeEnsembleClassifier: nodes named by (tree, node), votes apart.
struct Votes {
  const char *ids_name, *weights_name;
  std::vector<int64_t> trees, nodes, ids;
  std::vector<double> weights;
};

template <typename A>
Forest compile(PrepareContext& ctx, const A& a, const Votes& votes, int64_t targets, int64_t feature_count) {
  Forest forest;
  forest.targets = targets;
  const std::vector<int64_t> trees = list(a.nodes_treeids), ids = list(a.nodes_nodeids),
                             feature = list(a.nodes_featureids), on_true = list(a.nodes_truenodeids),
                             on_false = list(a.nodes_falsenodeids),
                             missing = list(a.nodes_missing_value_tracks_true);
  const std::vector<std::string> modes = list(a.nodes_modes);
  const std::vector<double> values =
      float_list(ctx, "nodes_values", a.nodes_values, a.nodes_values_as_tensor);
  const size_t n = trees.size();
  expect_count(ctx, "nodes_nodeids", ids.size(), n);
  expect_count(ctx, "nodes_featureids", feature.size(), n);
  expect_count(ctx, "nodes_truenodeids", on_true.size(), n);
  expect_count(ctx, "nodes_falsenodeids", on_false.size(), n);
  expect_count(ctx, "nodes_modes", modes.size(), n);
  expect_count(ctx, "nodes_values", values.size(), n);
  if (!missing.empty()) expect_count(ctx, "nodes_missing_value_tracks_true", missing.size(), n);
  ctx.expect(n < static_cast<size_t>(std::numeric_limits<int32_t>::max()), "number of tree nodes",
             "less than 2^31", std::to_string(n));

  static const std::map<std::string, Mode> mode_names = {{"BRANCH_LEQ", Mode::LessEqual},
                                                         {"BRANCH_LT", Mode::Less},
                                                         {"BRANCH_GTE", Mode::GreaterEqual},
                                                         {"BRANCH_GT", Mode::Greater},
                                                         {"BRANCH_EQ", Mode::Equal},
                                                         {"BRANCH_NEQ", Mode::NotEqual},
                                                         {"LEAF", Mode::Leaf}};
  std::map<std::pair<int64_t, int64_t>, size_t> position;
  std::vector<Mode> mode(n);
  for (size_t i = 0; i < n; ++i) {
    const auto found = mode_names.find(modes[i]);
    ctx.expect(found != mode_names.end(), "attribute 'nodes_modes'", "a known mode", "'" + modes[i] + "'");
    mode[i] = found->second;
    ctx.expect(position.emplace(std::pair(trees[i], ids[i]), i).second, "attribute 'nodes_nodeids'",
               "each node once in a tree",
               "node " + std::to_string(ids[i]) + " of tree " + std::to_string(trees[i]) + " again");
  }
  // Leaves hold their votes in the order of the attribute.
  expect_count(ctx, votes.ids_name, votes.ids.size(), votes.trees.size());
  expect_count(ctx, votes.ids_name, votes.nodes.size(), votes.trees.size());
  expect_count(ctx, votes.weights_name, votes.weights.size(), votes.trees.size());
  std::vector<std::vector<size_t>> at_node(n);
  for (size_t v = 0; v < votes.trees.size(); ++v) {
    const auto found = position.find({votes.trees[v], votes.nodes[v]});
    ctx.expect(found != position.end(), "votes", "of nodes that exist",
               "node " + std::to_string(votes.nodes[v]) + " of tree " + std::to_string(votes.trees[v]));
    expect_index(ctx, votes.ids_name, votes.ids[v], targets);
    at_node[found->second].push_back(v);
  }
  std::vector<int32_t> place(n);
  int32_t branches = 0;
  for (size_t i = 0; i < n; ++i) {
    if (mode[i] != Mode::Leaf) {
      place[i] = branches++;
      continue;
    }
    place[i] = ~static_cast<int32_t>(forest.leaves.size());
    const size_t begin = forest.votes.size();
    for (size_t v : at_node[i]) forest.votes.push_back({votes.ids[v], votes.weights[v]});
    forest.leaves.emplace_back(begin, forest.votes.size());
  }
  const auto child = [&](size_t i, int64_t id) {
    const auto found = position.find({trees[i], id});
    ctx.expect(found != position.end(), "child of node " + std::to_string(ids[i]),
               "a node of tree " + std::to_string(trees[i]), std::to_string(id));
    return place[found->second];
  };
  std::map<int64_t, bool> seen;
  for (size_t i = 0; i < n; ++i) {
    // The first node of a tree is its root.
    if (seen.emplace(trees[i], true).second) forest.roots.push_back(place[i]);
    if (mode[i] == Mode::Leaf) continue;
    expect_index(ctx, "nodes_featureids", feature[i], feature_count);
    forest.nodes.push_back({values[i], feature[i], child(i, on_true[i]), child(i, on_false[i]), 0, mode[i],
                            !missing.empty() && missing[i] != 0});
  }
  check_acyclic(ctx, forest);
  forest.base = float_list(ctx, "base_values", a.base_values, a.base_values_as_tensor);
  ctx.expect(forest.base.size() <= 1 || static_cast<int64_t>(forest.base.size()) == targets,
             "attribute 'base_values'", std::to_string(targets) + " values",
             std::to_string(forest.base.size()));
  return forest;
}

Prepared prepare_regressor(PrepareContext& ctx) {
  const auto a = ctx.attributes<TreeEnsembleRegressorAttributes>();
  const Rows rows = prepare_rows(ctx);
  const int64_t targets = a.n_targets.value_or(1);
  ctx.expect(targets > 0, "attribute 'n_targets'", "at least 1", std::to_string(targets));
  const Votes votes{"target_ids",
                    "target_weights",
                    list(a.target_treeids),
                    list(a.target_nodeids),
                    list(a.target_ids),
                    float_list(ctx, "target_weights", a.target_weights, a.target_weights_as_tensor)};
  Forest forest = compile(ctx, a, votes, targets, rows.features);
  const std::vector<std::string> names = {"AVERAGE", "SUM", "MIN", "MAX"};
  const auto found = std::find(names.begin(), names.end(), a.aggregate_function);
  ctx.expect(found != names.end(), "attribute 'aggregate_function'", "AVERAGE, SUM, MIN or MAX",
             "'" + a.aggregate_function + "'");
  forest.aggregate = static_cast<Aggregate>(found - names.begin());
  const PostTransform transform = post_transform(ctx, a.post_transform);
  ctx.output(0, DType::Float32, {rows.count, targets});
  return [forest = std::make_shared<const Forest>(std::move(forest)), rows, transform](RunContext& run) {
    float* y = run.out<float>(0);
    each_row(*forest, rows, features(run.input(0)), [&](int64_t r, double* scores, const uint8_t*) {
      apply_post_transform(transform, scores, forest->targets);
      for (int64_t t = 0; t < forest->targets; ++t)
        y[r * forest->targets + t] = static_cast<float>(scores[t]);
    });
  };
}

// What a classifier with the votes of one class only makes of its score: the probability of the second
// class when no weight is negative, else a margin around zero.
int64_t classify_binary(PostTransform transform, bool positive_weights, double score, double* out) {
  const bool probability = positive_weights && transform != PostTransform::Logistic &&
                           transform != PostTransform::Softmax && transform != PostTransform::SoftmaxZero;
  out[0] = probability || transform == PostTransform::Probit ? 1 - score : -score;
  out[1] = score;
  apply_post_transform(transform, out, 2);
  return score > (positive_weights ? 0.5 : 0.0) ? 1 : 0;
}

Prepared prepare_classifier(PrepareContext& ctx) {
  const auto a = ctx.attributes<TreeEnsembleClassifierAttributes>();
  const Rows rows = prepare_rows(ctx);
  const Labels labels = prepare_labels(ctx, a.classlabels_int64s, a.classlabels_strings);
  const int64_t classes = labels.size();
  ctx.expect(classes > 0, "class labels", "at least 1", "0");
  const Votes votes{
      "class_ids",           "class_weights",
      list(a.class_treeids), list(a.class_nodeids),
      list(a.class_ids),     float_list(ctx, "class_weights", a.class_weights, a.class_weights_as_tensor)};
  const Forest forest = compile(ctx, a, votes, classes, rows.features);
  const PostTransform transform = post_transform(ctx, a.post_transform);
  const bool first_only = std::all_of(votes.ids.begin(), votes.ids.end(), [](int64_t id) { return id == 0; });
  const bool one_class =
      std::all_of(votes.ids.begin(), votes.ids.end(), [&](int64_t id) { return id == votes.ids.front(); });
  const bool positive =
      std::all_of(votes.weights.begin(), votes.weights.end(), [](double w) { return w >= 0; });
  ctx.output(0, labels.dtype(), {rows.count});
  ctx.output(1, DType::Float32, {rows.count, classes});
  return [=, forest = std::make_shared<const Forest>(forest)](RunContext& run) {
    float* z = run.out<float>(1);
    each_row(*forest, rows, features(run.input(0)), [&](int64_t r, double* scores, const uint8_t*) {
      int64_t best = 0;
      bool none = false;
      if (classes == 2 && one_class && first_only) {
        best = classify_binary(transform, positive, scores[0], scores);
      } else if (classes == 1) {
        none = !(scores[0] > (positive ? 0.5 : 0.0));
        apply_post_transform(transform, scores, 1);
      } else {
        if (classes == 2 && one_class)
          best = scores[1] > (positive ? 0.5 : 0.0) ? 1 : 0;
        else
          best = std::max_element(scores, scores + classes) - scores;
        apply_post_transform(transform, scores, classes);
      }
      if (run.wants(0)) {
        if (!none)
          labels.write(run.output(0), r, best);
        else if (!labels.are_strings())
          run.output(0).mutable_data<int64_t>()[r] = 0;
      }
      for (int64_t c = 0; z && c < classes; ++c) z[r * classes + c] = static_cast<float>(scores[c]);
    });
  };
}

// ---- TreeEnsemble: nodes and leaves apart, children by position.

Prepared prepare_ensemble(PrepareContext& ctx) {
  const auto a = ctx.attributes<TreeEnsembleAttributes>();
  const Dims& x = ctx.dims(0);
  const DType dtype = ctx.dtype(0);
  ctx.expect(x.size() == 2, "input 'X'", "rank 2", to_string(x));
  ctx.expect(dtype == DType::Float32 || dtype == DType::Float64 || dtype == DType::Float16, "input 'X'",
             "float, double or float16", dtype_name(dtype));
  const Rows rows{x[0], x[1]};
  Forest forest;
  forest.targets = a.n_targets.value_or(1);
  ctx.expect(forest.targets > 0, "attribute 'n_targets'", "at least 1", std::to_string(forest.targets));
  ctx.expect(a.aggregate_function >= 0 && a.aggregate_function <= 3, "attribute 'aggregate_function'",
             "0 to 3", std::to_string(a.aggregate_function));
  forest.aggregate = static_cast<Aggregate>(a.aggregate_function);
  ctx.expect(a.post_transform >= 0 && a.post_transform <= 4, "attribute 'post_transform'", "0 to 4",
             std::to_string(a.post_transform));
  const auto transform = static_cast<PostTransform>(a.post_transform);

  const std::vector<int64_t> feature = list(a.nodes_featureids), on_true = list(a.nodes_truenodeids),
                             on_false = list(a.nodes_falsenodeids), true_leafs = list(a.nodes_trueleafs),
                             false_leafs = list(a.nodes_falseleafs),
                             missing = list(a.nodes_missing_value_tracks_true),
                             targets = list(a.leaf_targetids), roots = list(a.tree_roots);
  ctx.expect(a.nodes_splits && a.nodes_modes && a.leaf_weights,
             "attributes 'nodes_splits', 'nodes_modes' and 'leaf_weights'", "tensors");
  const auto numbers_of = [&](const char* name, const Tensor& tensor) {
    ctx.expect(is_float(tensor.dtype()), std::string("attribute '") + name + "'", "floats",
               dtype_name(tensor.dtype()));
    return tensor.to_doubles();
  };
  const std::vector<double> splits = numbers_of("nodes_splits", *a.nodes_splits),
                            weights = numbers_of("leaf_weights", *a.leaf_weights);
  ctx.expect(a.nodes_modes->dtype() == DType::UInt8, "attribute 'nodes_modes'", "uint8",
             dtype_name(a.nodes_modes->dtype()));
  const std::vector<int64_t> modes = a.nodes_modes->to_int64s();
  const size_t n = splits.size();
  expect_count(ctx, "nodes_featureids", feature.size(), n);
  expect_count(ctx, "nodes_modes", modes.size(), n);
  expect_count(ctx, "nodes_truenodeids", on_true.size(), n);
  expect_count(ctx, "nodes_falsenodeids", on_false.size(), n);
  expect_count(ctx, "nodes_trueleafs", true_leafs.size(), n);
  expect_count(ctx, "nodes_falseleafs", false_leafs.size(), n);
  if (!missing.empty()) expect_count(ctx, "nodes_missing_value_tracks_true", missing.size(), n);
  expect_count(ctx, "leaf_targetids", targets.size(), weights.size());
  ctx.expect(n < static_cast<size_t>(std::numeric_limits<int32_t>::max()) &&
                 weights.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()),
             "number of tree nodes", "less than 2^31", std::to_string(n));
  for (size_t i = 0; i < weights.size(); ++i) {
    expect_index(ctx, "leaf_targetids", targets[i], forest.targets);
    forest.votes.push_back({targets[i], weights[i]});
    forest.leaves.emplace_back(i, i + 1);
  }
  // The sets of the membership nodes, in order, each ended by a NaN.
  if (a.membership_values) {
    forest.members.emplace_back();
    for (double v : numbers_of("membership_values", *a.membership_values)) {
      if (std::isnan(v))
        forest.members.emplace_back();
      else
        forest.members.back().push_back(v);
    }
    for (auto& set : forest.members) std::sort(set.begin(), set.end());
  }
  const auto child = [&](const char* name, int64_t id, bool leaf) {
    expect_index(ctx, name, id, static_cast<int64_t>(leaf ? weights.size() : n));
    return leaf ? ~static_cast<int32_t>(id) : static_cast<int32_t>(id);
  };
  size_t sets = 0;
  for (size_t i = 0; i < n; ++i) {
    ctx.expect(modes[i] <= 6, "attribute 'nodes_modes'", "0 to 6", std::to_string(modes[i]));
    expect_index(ctx, "nodes_featureids", feature[i], rows.features);
    TreeNode node;
    node.threshold = splits[i];
    node.feature = feature[i];
    node.on_true = child("nodes_truenodeids", on_true[i], true_leafs[i] != 0);
    node.on_false = child("nodes_falsenodeids", on_false[i], false_leafs[i] != 0);
    node.mode = static_cast<Mode>(modes[i]);
    node.missing_is_true = !missing.empty() && missing[i] != 0;
    if (node.mode == Mode::Member) {
      ctx.expect(sets < forest.members.size(), "attribute 'membership_values'",
                 "a set for each membership node", std::to_string(forest.members.size()));
      node.members = static_cast<int32_t>(sets++);
    }
    forest.nodes.push_back(node);
  }
  for (int64_t root : roots) {
    expect_index(ctx, "tree_roots", root, static_cast<int64_t>(n));
    forest.roots.push_back(static_cast<int32_t>(root));
  }
  check_acyclic(ctx, forest);
  ctx.output(0, dtype, {rows.count, forest.targets});
  return
      [forest = std::make_shared<const Forest>(std::move(forest)), rows, transform, dtype](RunContext& run) {
        const int64_t width = forest->targets;
        Tensor result(DType::Float64, {rows.count, width});
        each_row(*forest, rows, features(run.input(0)), [&](int64_t r, double* scores, const uint8_t*) {
          apply_post_transform(transform, scores, width);
          std::copy_n(scores, width, result.mutable_data<double>() + r * width);
        });
        convert_floats(DType::Float64, result.data(), dtype, run.output(0).mutable_data(), result.size());
      };
}

}  // namespace

void register_ml_trees(KernelRegistry& registry) {
  registry.ref("TreeEnsembleRegressor", prepare_regressor, kMlDomain);
  registry.ref("TreeEnsembleClassifier", prepare_classifier, kMlDomain);
  registry.ref("TreeEnsemble", prepare_ensemble, kMlDomain);
}

}  // namespace sardonyx::cpu
