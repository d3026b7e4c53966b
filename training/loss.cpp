#include "training/loss.h"

namespace sardonyx {

void register_all_losses(std::vector<Loss>& losses);

const std::vector<Loss>& all_losses() {
  static const std::vector<Loss> losses = [] {
    std::vector<Loss> all;
    register_all_losses(all);
    return all;
  }();
  return losses;
}

const Loss& find_loss(const std::string& name) {
  std::vector<std::string> names;
  for (const Loss& loss : all_losses()) names.push_back(loss.name);
  const std::string canonical = canonical_name("loss", name, names, "Loss");
  for (const Loss& loss : all_losses())
    if (loss.name == canonical) return loss;
  throw InputError("loss", "a known name", "'" + name + "'");
}

ValueId LossBuild::constant(const std::string& name) const {
  const Tensor tensor = arguments.tensor(name);
  if (!tensor.defined()) return kNone;
  const ValueId id = c.builder().constant(tensor);
  return tensor.dtype() == dtype() ? id : c.cast(id, dtype());
}

ValueId LossBuild::reduced(ValueId loss) const {
  if (reduction == "none") return loss;
  return c.op(reduction == "mean" ? "ReduceMean" : "ReduceSum", {loss},
              attributes({{"keepdims", int64_t{0}}}));
}

namespace {
// torch's rule for the arguments that `reduction` took the place of.
std::string reduction_of(ArgumentReader& arguments, const Loss& loss) {
  const bool older = arguments.given("size_average") || arguments.given("reduce");
  const bool average = arguments.flag("size_average", true), reduce = arguments.flag("reduce", true);
  const std::string word = arguments.word("reduction", "mean", loss.reductions);
  if (!older) return word;
  return !reduce ? "none" : average ? "mean" : "sum";
}
}  // namespace

std::vector<Type> usual_targets(const Loss& loss, const Type& input) {
  std::vector<Type> types;
  for (const LossPort& port : loss.ports) {
    if (!port.is_target) continue;
    types.push_back(input);
    if (port.usual == LossPort::Usual::LikeInput) continue;
    types.back().dtype = DType::Int64;
    auto& shape = types.back().shape;
    if (!shape || shape->empty()) continue;
    if (port.usual == LossPort::Usual::Classes) {
      shape->erase(shape->begin() + (shape->size() > 1 ? 1 : 0));
      continue;
    }
    // Without steps and classes: the batch, if there is one.
    shape->erase(shape->begin());
    if (!shape->empty()) shape->pop_back();
    if (port.usual == LossPort::Usual::Sequences) shape->push_back(Dim());
  }
  return types;
}

ValueId append_loss(GraphBuilder& builder, const Loss& loss, const Arguments& given,
                    const std::vector<ValueId>& ports) {
  Node node;
  node.op = loss.name;
  node.inputs = ports;
  for (size_t i = 0; i < loss.ports.size(); ++i) {
    const Type& type = builder.graph().value(ports.at(i)).type;
    if (!type.is_tensor() || type.rank() < 0)
      throw InputError(loss.name + ": '" + loss.ports[i].name + "'", "a tensor of known rank",
                       type.to_string());
  }
  if (!is_float(builder.graph().value(ports[0]).type.dtype))
    throw InputError(loss.name + ": '" + loss.ports[0].name + "'", "a float tensor",
                     builder.graph().value(ports[0]).type.to_string());
  ArgumentReader arguments(loss.name, given);
  Compose compose(builder, node);
  LossBuild build{compose, arguments, reduction_of(arguments, loss)};
  const ValueId value = loss.build(build);
  arguments.done();
  return value;
}

}  // namespace sardonyx
