#include "training/recompute.h"

#include <algorithm>
#include <map>

#include "ops/registry/operator.h"
#include "ops/registry/propagate.h"

namespace sardonyx {

namespace {

constexpr double kSmall = 0.1;  // of the value that crosses a cut, what else may cross
using Bytes = std::vector<double>;

double bytes_of(const Type& type) {
  if (!type.is_tensor() || !type.shape) return 0;
  double bytes = static_cast<double>(element_size(type.dtype));
  for (const Dim& dim : *type.shape) bytes *= dim.known() ? static_cast<double>(dim.value) : 1;
  return bytes;
}

// The last node that reads each value; 0 where none does.
std::vector<size_t> last_uses(const Graph& graph) {
  std::vector<size_t> last(graph.values().size(), 0);
  for (size_t n = 0; n < graph.nodes().size(); ++n)
    for (const auto* ids : {&graph.nodes()[n].inputs, &graph.nodes()[n].captures})
      for (const ValueId id : *ids)
        if (id != kNone && !measures(graph.nodes()[n])) last[static_cast<size_t>(id)] = n;
  return last;
}

// Whether the first output is the bytes of the first input.
bool is_view(const Node& node) {
  return node.is("Reshape") || node.is("Squeeze") || node.is("Unsqueeze") || node.is("Flatten") ||
         node.is("Identity") || (node.domain == kOwnDomain && node.op == "Barrier");
}

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
      if (measures(graph.nodes()[n])) continue;
      for (const auto* ids : {&graph.nodes()[n].inputs, &graph.nodes()[n].captures})
        for (const ValueId id : *ids)
          if (is_forward(id) && piece_of(id) != piece_[n]) kept_[static_cast<size_t>(id)] = 1;
    }
  }

  void run() {
    const size_t nodes = builder_.graph().nodes().size();
    for (size_t n = forward_; n < nodes; ++n) {
      const auto id = static_cast<NodeId>(n);
      if (measures(builder_.node(id))) continue;
      // What reads nothing of the backward pass comes where the nodes before it are.
      const auto& inputs = builder_.node(id).inputs;
      const auto backward = std::find_if(inputs.begin(), inputs.end(), [&](ValueId input) {
        return input != kNone && made_by(input) >= static_cast<NodeId>(forward_);
      });
      if (backward != inputs.end()) pin_ = *backward;
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
  ValueId pin_ = kNone;        // a value of the backward pass that is there when the node at hand runs
  std::map<ValueId, ValueId> copies_;
  std::map<std::pair<size_t, ValueId>, ValueId> held_;
};

}  // namespace

std::vector<std::string> cut_points(const Graph& forward, int pieces) {
  const auto& nodes = forward.nodes();
  const std::vector<size_t> last_use = last_uses(forward);
  Bytes made;  // up to and with each node
  double total = 0;
  for (const Node& node : nodes) {
    for (const ValueId id : node.outputs)
      if (id != kNone) total += bytes_of(forward.value(id).type);
    made.push_back(total);
  }
  struct Place {
    ValueId value;
    double bytes;  // of what is made up to it
  };
  std::vector<Place> places;
  std::vector<ValueId> crossing;
  for (size_t n = 0; n < nodes.size(); ++n) {
    for (const ValueId id : nodes[n].outputs) {
      if (id == kNone || last_use[static_cast<size_t>(id)] <= n) continue;
      // What lives for longer than a piece is kept wherever the cuts are.
      if (made[last_use[static_cast<size_t>(id)]] - made[n] <= total / pieces) crossing.push_back(id);
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
      places.push_back({largest, made[n]});
  }
  std::vector<std::string> names;
  pieces = static_cast<int>(std::min<size_t>(static_cast<size_t>(pieces), places.size() + 1));
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

double live_bytes(const Graph& graph) {
  const auto& nodes = graph.nodes();
  std::vector<size_t> last = last_uses(graph);
  for (const ValueId id : graph.outputs()) last[static_cast<size_t>(id)] = nodes.size();
  Bytes held(graph.values().size(), 0);
  std::vector<ValueId> owner(graph.values().size());  // of the bytes that a view shows
  for (size_t i = 0; i < owner.size(); ++i) owner[i] = static_cast<ValueId>(i);
  for (size_t n = nodes.size(); n-- > 0;)
    if (is_view(nodes[n]) && nodes[n].input(0) != kNone) {
      const auto from = static_cast<size_t>(nodes[n].input(0)), to = static_cast<size_t>(nodes[n].output(0));
      last[from] = std::max(last[from], last[to]);
    }
  std::vector<char> in_place(graph.values().size(), 0);
  for (const Graph::Update& update : graph.updates()) in_place[static_cast<size_t>(update.output)] = 1;
  double now = 0, most = 0;
  for (size_t n = 0; n < nodes.size(); ++n) {
    const Node& node = nodes[n];
    const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
    const auto release = [&] {
      for (const auto* ids : {&node.inputs, &node.captures})
        for (const ValueId id : *ids)
          if (id != kNone && last[static_cast<size_t>(id)] <= n) {
            double& bytes = held[static_cast<size_t>(owner[static_cast<size_t>(id)])];
            now -= bytes;
            bytes = 0;
          }
    };
    // An elementwise node writes over an input that nobody reads any more.
    const bool over = op && op->elementwise_in(graph, node);
    if (over) release();
    if (is_view(node) && node.input(0) != kNone) {
      owner[static_cast<size_t>(node.output(0))] = owner[static_cast<size_t>(node.input(0))];
    } else {
      for (const ValueId id : node.outputs) {
        if (id == kNone || in_place[static_cast<size_t>(id)]) continue;
        now += held[static_cast<size_t>(id)] = bytes_of(graph.value(id).type);
      }
    }
    most = std::max(most, now);
    if (!over) release();
    for (const ValueId id : node.outputs)  // that nobody reads
      if (id != kNone && last[static_cast<size_t>(id)] <= n && !is_view(node)) {
        now -= held[static_cast<size_t>(id)];
        held[static_cast<size_t>(id)] = 0;
      }
  }
  return most;
}

void recompute(GraphBuilder& builder, size_t forward, const std::vector<std::string>& cuts) {
  if (!cuts.empty()) Recompute(builder, forward, cuts).run();
}

}  // namespace sardonyx
