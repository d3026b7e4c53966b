#include "tests/support/gradient.h"

#include <cmath>
#include <random>

#include "api/differentiable.h"
#include "api/pipeline.h"
#include "autodiff/backward.h"
#include "ops/registry/schema.h"

namespace sardonyx::test {

LoadedModel gradient_of(const LoadedModel& model, const std::vector<std::string>& wrt) {
  const Pipeline pipeline({"cpu"});
  const GraphPtr graph = differentiable(model.get()->graph, pipeline.evaluator.get());
  GraphBuilder builder(*graph);
  std::vector<ValueId> outputs, cotangents, ids, inputs = graph->inputs();
  for (const ValueId id : graph->outputs()) {
    const ValueInfo& info = graph->value(id);
    if (!info.type.is_tensor() || !is_float(info.type.dtype)) continue;
    outputs.push_back(id);
    cotangents.push_back(builder.input("d_" + info.name, info.type));
  }
  for (const std::string& name : wrt) ids.push_back(graph->find(name));
  const std::vector<ValueId> gradients = append_gradient(builder, outputs, cotangents, ids);
  std::vector<ValueId> results;
  for (size_t i = 0; i < ids.size(); ++i) {
    // Zeros and an output that has the gradient's name alone.
    Tensor zero(graph->value(ids[i]).type.dtype, {});
    std::fill_n(static_cast<std::byte*>(zero.mutable_data()), zero.bytes(), std::byte{0});
    const ValueId named = builder.value("grad_" + wrt[i]);
    Node node;
    if (gradients[i] == kNone) {
      node.op = "Expand";
      node.inputs = {builder.constant(zero), builder.op("Shape", {ids[i]})};
    } else {
      node.op = "Identity";
      node.inputs = {gradients[i]};
    }
    node.outputs = {named};
    builder.add(std::move(node));
    results.push_back(named);
  }
  builder.set_outputs(results);
  auto next = std::make_shared<Model>(*model.get());
  next->graph = infer_types(std::move(builder).build_pruned(), pipeline.evaluator.get());
  return LoadedModel(next);
}

Tensor random_like(const Tensor& x, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  Tensor tensor(DType::Float64, x.dims());
  for (int64_t i = 0; i < tensor.size(); ++i) tensor.mutable_data<double>()[i] = normal(random);
  return tensor;
}

namespace {

// Normal numbers; zero but for 256 places in a larger tensor, whose elements would otherwise step over some
// kink or jump.
Tensor random_direction(const Tensor& x, std::mt19937_64& random) {
  constexpr int64_t kMost = 256;
  Tensor tensor = random_like(x, random);
  if (x.size() <= kMost) return tensor;
  std::vector<char> kept(static_cast<size_t>(x.size()), 0);
  for (int64_t i = 0; i < kMost; ++i) kept[random() % kept.size()] = 1;
  for (size_t i = 0; i < kept.size(); ++i)
    if (!kept[i]) tensor.mutable_data<double>()[i] = 0;
  return tensor;
}

// The same model with names for the numbers of its inputs' dims: what a rule may rely on is the rank.
LoadedModel with_symbols(const LoadedModel& model) {
  GraphBuilder builder(*model.get()->graph);
  int next = 0;
  for (const ValueId id : model.get()->graph->inputs())
    if (Type& type = builder.info(id).type; type.shape)
      for (Dim& dim : *type.shape) dim = Dim("dim" + std::to_string(next++));
  auto changed = std::make_shared<Model>(*model.get());
  changed->graph = std::move(builder).build();
  return LoadedModel(changed);
}

Tensor moved(const Tensor& x, const Tensor& direction, double step) {
  Tensor tensor = x.clone();
  for (int64_t i = 0; i < tensor.size(); ++i)
    tensor.mutable_data<double>()[i] += step * direction.data<double>()[i];
  return tensor;
}

// The sum of the products, and of their magnitudes.
std::pair<double, double> dot(const Tensor& a, const Tensor& b) {
  double sum = 0, magnitude = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    const double term = a.data<double>()[i] * b.data<double>()[i];
    sum += term;
    magnitude += std::abs(term);
  }
  return {sum, magnitude};
}

}  // namespace

double gradient_error(const LoadedModel& given, const Feeds& feeds, const GradientCheck& check) {
  const LoadedModel model = check.symbolic ? with_symbols(given) : given;
  SessionOptions options;
  options.prefer_kernel = check.prefer_kernel;
  if (check.prefer_kernel == "ref") options.optimize = "none";
  Session forward(model, options), backward(gradient_of(model, check.wrt), options);
  double worst = 0;
  for (int seed = 1; seed <= check.seeds; ++seed) {
    std::mt19937_64 random(static_cast<uint64_t>(seed));
    const std::vector<Value> outputs = forward.run(feeds);
    std::vector<Tensor> cotangents(outputs.size());
    Feeds all = feeds;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].is_tensor() || outputs[i].tensor().dtype() != DType::Float64) continue;
      cotangents[i] = random_like(outputs[i].tensor(), random);
      all["d_" + forward.outputs()[i].name] = cotangents[i];
    }
    // A cotangent that no gradient reads is no input.
    for (auto it = all.begin(); it != all.end();) {
      bool known = false;
      for (const auto& input : backward.inputs()) known = known || input.name == it->first;
      it = known ? std::next(it) : all.erase(it);
    }
    const std::vector<Value> gradients = backward.run(all);
    const auto loss = [&](const Feeds& at) {
      const std::vector<Value> y = forward.run(at);
      std::pair<double, double> sum;
      for (size_t i = 0; i < y.size(); ++i)
        if (cotangents[i].defined()) {
          const auto [part, magnitude] = dot(y[i].tensor(), cotangents[i]);
          sum.first += part;
          sum.second += magnitude;
        }
      return sum;
    };
    for (size_t k = 0; k < check.wrt.size(); ++k) {
      const Tensor& x = feeds.at(check.wrt[k]).tensor();
      const Tensor& gradient = gradients[k].tensor();
      if (gradient.dims() != x.dims()) return std::numeric_limits<double>::infinity();
      const Tensor direction = random_direction(x, random);
      Feeds at = feeds;
      at[check.wrt[k]] = moved(x, direction, check.step);
      const auto [above, magnitude] = loss(at);
      at[check.wrt[k]] = moved(x, direction, -check.step);
      const double expected = (above - loss(at).first) / (2 * check.step);
      const double got = dot(gradient, direction).first;
      // What rounding the outputs alone can make of the difference.
      const double noise = 1e-15 * magnitude / check.step;
      double scale = 0;
      for (int64_t i = 0; i < x.size(); ++i)
        scale += std::pow(gradient.data<double>()[i] * direction.data<double>()[i], 2);
      const double error = std::max(std::abs(got - expected) - noise, 0.0) /
                           std::max({std::sqrt(scale), std::abs(expected), 1e-3});
      worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
    }
  }
  return worst;
}

double second_order_error(const LoadedModel& model, const Feeds& feeds, GradientCheck check) {
  const LoadedModel gradient = gradient_of(model, check.wrt);
  Session session(gradient), forward(model);
  const std::vector<Value> outputs = forward.run(feeds);
  std::map<std::string, Value> values = feeds;
  std::mt19937_64 random(7);
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].is_tensor())
      values["d_" + forward.outputs()[i].name] = random_like(outputs[i].tensor(), random);
  Feeds all;
  for (const auto& input : session.inputs()) {
    all[input.name] = values.at(input.name);
    if (input.dtype == DType::Float64 && input.name.starts_with("d_")) check.wrt.push_back(input.name);
  }
  check.seeds = 1;
  return gradient_error(gradient, all, check);
}

}  // namespace sardonyx::test
