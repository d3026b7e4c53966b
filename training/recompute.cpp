#include "training/recompute.h"

#include <algorithm>
#include <map>

#include "ops/registry/operator.h"

namespace sardonyx {

namespace {

constexpr double kSmall = 0.1;  // of the value that crosses a cut, what else may cross

double bytes_of(const Type& type) {
  if (!type.is_tensor() || !type.shape) return 0;
  double bytes = static_cast<double>(element_size(type.dtype));
  for (const Dim& dim : *type.shape) bytes *= dim.known() ? static_cast<double>(dim.value) : 1;
  return bytes;
}

// Asks for dims alone: nothing that a plan would keep the value for.
bool reads_dims(const Node& node) { return node.is("Shape") || node.is("Size"); }

class Recompute {
 public:
  Recompute(GraphBuilder& builder, size_t forward, const std::vector<std::string>& cuts)
      : builder_(builder), forward_(forward) {
    const Graph& graph = builder.graph();
    producer_.assign(graph.values().size(), kNone);
    for (size_t n = 0; n < graph.nodes().size(); ++n)
      for (const ValueId id : graph.nodes()[n].outputs)
        if (id != kNone) producer_[static_cast<size_t>(id)] = static_cast<NodeId>(n);
    kept_.assign(graph.values().size(), 0);
    std::vector<size_t> places;
    for (const std::string& name : cuts) {
      const ValueId id = graph.find(name);
      if (id == kNone || !is_forward(id))
        throw InputError("recompute", "names of values of the model", "'" + name + "'");
      kept_[static_cast<size_t>(id)] = 1;
      places.push_back(static_cast<size_t>(producer_[static_cast<size_t>(id)]));
    }
    std::sort(places.begin(), places.end());
    for (size_t n = 0; n < forward; ++n)
      piece_.push_back(
          static_cast<size_t>(std::lower_bound(places.begin(), places.end(), n) - places.begin()));
    last_ = places.size();
    for (const ValueId id : graph.outputs()) kept_[static_cast<size_t>(id)] = 1;
    for (size_t n = 0; n < forward; ++n) {
      if (reads_dims(graph.nodes()[n])) continue;
      for (const auto* ids : {&graph.nodes()[n].inputs, &graph.nodes()[n].captures})
        for (const ValueId id : *ids)
          if (is_forward(id) && piece_of(id) != piece_[n]) kept_[static_cast<size_t>(id)] = 1;
    }
  }

  void run() {
    const size_t nodes = builder_.graph().nodes().size();
    for (size_t n = forward_; n < nodes; ++n) {
      const auto id = static_cast<NodeId>(n);
      pin_ = kNone;
      for (const ValueId input : builder_.node(id).inputs)
        if (input != kNone && pin_ == kNone && made_by(input) >= static_cast<NodeId>(forward_)) pin_ = input;
      for (size_t i = 0; i < builder_.node(id).inputs.size(); ++i) {
        const ValueId input = builder_.node(id).inputs[i];
        if (!again(input)) continue;
        const ValueId copy = repeated(input);
        builder_.node(id).inputs[i] = copy;
      }
    }
  }

 private:
  NodeId made_by(ValueId id) const {
    return static_cast<size_t>(id) < producer_.size() ? producer_[static_cast<size_t>(id)]
                                                      : static_cast<NodeId>(forward_);
  }
  bool is_forward(ValueId id) const {
    return id != kNone && made_by(id) != kNone && made_by(id) < static_cast<NodeId>(forward_);
  }
  size_t piece_of(ValueId id) const { return piece_[static_cast<size_t>(made_by(id))]; }
  bool again(ValueId id) const {
    return is_forward(id) && !kept_[static_cast<size_t>(id)] && piece_of(id) != last_;
  }

  ValueId repeated(ValueId id) {
    if (const auto it = copies_.find(id); it != copies_.end()) return it->second;
    const size_t piece = piece_of(id);
    Node copy = builder_.graph().node(made_by(id));
    for (auto* ids : {&copy.inputs, &copy.captures})
      for (ValueId& input : *ids) {
        if (input == kNone) continue;
        if (is_forward(input) && again(input) && piece_of(input) == piece)
          input = repeated(input);
        else if (is_forward(input) || builder_.info(input).kind == ValueKind::Input)
          input = held_back(input, piece);
      }
    for (ValueId& output : copy.outputs) {
      if (output == kNone) continue;
      const ValueInfo info = builder_.info(output);
      const ValueId made = builder_.value(info.name, info.type);
      copies_[output] = made;
      output = made;
    }
    builder_.add(std::move(copy));
    return copies_.at(id);
  }

  // A kept value as the piece reads it once the backward pass is there.
  ValueId held_back(ValueId id, size_t piece) {
    if (pin_ == kNone) return id;
    ValueId& slot = held_[{piece, id}];
    if (slot == 0) {
      slot = builder_.ops("Barrier", {id, pin_}, 1, {}, kOwnDomain)[0];
      builder_.info(slot).type = Type(builder_.info(id).type);
    }
    return slot;
  }

  GraphBuilder& builder_;
  size_t forward_, last_ = 0;
  std::vector<NodeId> producer_;
  std::vector<char> kept_;
  std::vector<size_t> piece_;  // of each forward node
  ValueId pin_ = kNone;        // a value of the backward pass that the node at hand reads
  std::map<ValueId, ValueId> copies_;
  std::map<std::pair<size_t, ValueId>, ValueId> held_;
};

}  // namespace

std::vector<std::string> cut_points(const Graph& forward, int pieces) {
  const auto& nodes = forward.nodes();
  std::vector<size_t> last_use(forward.values().size(), 0);
  for (size_t n = 0; n < nodes.size(); ++n)
    for (const auto* ids : {&nodes[n].inputs, &nodes[n].captures})
      for (const ValueId id : *ids)
        if (id != kNone && !reads_dims(nodes[n])) last_use[static_cast<size_t>(id)] = n;
  struct Place {
    ValueId value;
    double bytes;  // of what is made up to it
  };
  std::vector<Place> places;
  std::vector<ValueId> crossing;
  double total = 0;
  for (size_t n = 0; n < nodes.size(); ++n) {
    for (const ValueId id : nodes[n].outputs) {
      if (id == kNone) continue;
      total += bytes_of(forward.value(id).type);
      if (last_use[static_cast<size_t>(id)] > n) crossing.push_back(id);
    }
    std::erase_if(crossing, [&](ValueId id) { return last_use[static_cast<size_t>(id)] <= n; });
    // One value of any size may cross; masks and statistics are small beside it.
    ValueId largest = kNone;
    double others = 0;
    for (const ValueId id : crossing) {
      const bool more =
          largest == kNone || bytes_of(forward.value(id).type) > bytes_of(forward.value(largest).type);
      const ValueId less = more ? largest : id;
      if (less != kNone) others += bytes_of(forward.value(less).type);
      if (more) largest = id;
    }
    if (largest != kNone && is_float(forward.value(largest).type.dtype) &&
        others <= kSmall * bytes_of(forward.value(largest).type))
      places.push_back({largest, total});
  }
  std::vector<std::string> names;
  for (int p = 1; p < pieces; ++p) {
    const double wanted = total * p / pieces;
    const Place* best = nullptr;
    for (const Place& place : places)
      if (!best || std::abs(place.bytes - wanted) < std::abs(best->bytes - wanted)) best = &place;
    if (!best) break;
    const std::string& name = forward.value(best->value).name;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

void recompute(GraphBuilder& builder, size_t forward, const std::vector<std::string>& cuts) {
  if (!cuts.empty()) Recompute(builder, forward, cuts).run();
}

}  // namespace sardonyx
