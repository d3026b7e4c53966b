// A kernel: how one provider computes one operator. It is prepared once for the shapes and dtypes of its
// inputs (PrepareContext) and then run many times (RunContext).
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace sardonyx {

// The order in which the elements of a tensor lie in memory. Dims are always named in ONNX's order, [N, C,
// spatial...]; ChannelsLast is for ranks of 3 and above and stores them as [N, spatial..., C].
enum class Layout : uint8_t { Plain, ChannelsLast };
Dims memory_dims(const Dims& dims, Layout layout);
// The inverse: dims in ONNX's order of a tensor stored with `memory`.
Dims logical_dims(const Dims& memory, Layout layout);
// The position in memory_dims of an axis in [0, rank).
size_t memory_axis(size_t axis, size_t rank, Layout layout);
// Whether the bytes are the same in both layouts.
bool layouts_agree(const Dims& dims);

struct TensorDesc {
  DType dtype = DType::Undefined;
  Dims dims;
  Layout layout = Layout::Plain;
  int64_t size() const { return element_count(dims); }
  // LimitError when there are too many.
  size_t bytes() const {
    return static_cast<size_t>(
        checked_mul(size(), static_cast<int64_t>(element_size(dtype)), "bytes of a tensor"));
  }
};

class RunContext;

// A body of a control-flow node, ready to run.
class Body {
 public:
  virtual ~Body() = default;
  virtual const Graph& graph() const = 0;
  // `inputs` in the order of the body's formal inputs; captures come from the node that `run` belongs to.
  virtual std::vector<Value> run(RunContext& run, std::vector<Value> inputs) = 0;
};

// What preparing gives: a function that may be called from many threads at once, each with a context of
// its own, or the reason why this kernel does not take the node.
struct Prepared {
  std::function<void(RunContext&)> run;
  std::string declined;
  template <typename F>
  requires std::is_invocable_v<F, RunContext&> Prepared(F f) : run(std::move(f)) {}
  static Prepared decline(std::string why) {
    Prepared p;
    p.declined = std::move(why);
    return p;
  }

 private:
  Prepared() = default;
};
inline Prepared decline(std::string why) { return Prepared::decline(std::move(why)); }

// The inputs of a node as they are known before it runs; collects what the outputs will be.
class PrepareContext {
 public:
  struct Input {
    bool present = false;
    bool is_tensor = false;
    TensorDesc desc;
    const Tensor* host = nullptr;  // the value, where it is a host operand or a constant
    bool constant = false;
    Layout wanted = Layout::Plain;  // how the kernel reads it
    int64_t place = -1;             // the element of output 0 from which on its bytes may lie there
  };
  // An elementwise node behind this one, all of whose inputs are there when this one runs or made by it and
  // by the followers before.
  struct Follower {
    struct Source {
      int made = -1;     // 0: output 0 of the node itself; k: what follower k - 1 makes; -1: an input
      size_t input = 0;  // of the kernel; valid for every number that PrepareContext and RunContext take
    };
    const Node* node;
    std::vector<Source>
        inputs;   // parallel to those of `node`; an omitted one names an input that is not there
    bool closes;  // nothing but what this follower makes is read outside, up to here
  };
  enum class OutputKind { Unset, Static, Alias };
  struct Output {
    OutputKind kind = OutputKind::Unset;  // Unset: the kernel makes it while running
    TensorDesc desc;
    int shares = -1;    // Alias: the input whose bytes it is; Static: an input whose memory it may take
    int64_t first = 0;  // Alias: the element of that input with which it begins
  };

  PrepareContext(const Graph& graph, const Node& node) : graph_(graph), node_(node) {
    inputs_.resize(node.inputs.size());
    outputs_.resize(node.outputs.size());
  }

  const Graph& graph() const { return graph_; }
  const Node& node() const { return node_; }
  template <typename Struct>
  Struct attributes() const {
    return parse_attributes<Struct>(node_.attributes);
  }

  size_t input_count() const { return node_.inputs.size(); }
  size_t output_count() const { return outputs_.size(); }
  bool has_input(size_t i) const { return i < inputs_.size() && inputs_[i].present; }
  bool wants(size_t i) const { return i < outputs_.size() && node_.outputs[i] != kNone; }
  bool is_tensor(size_t i) const { return has_input(i) && inputs_[i].is_tensor; }
  // Of a tensor input; InputError when it is absent or not a tensor.
  const TensorDesc& input(size_t i) const;
  DType dtype(size_t i) const { return input(i).dtype; }
  const Dims& dims(size_t i) const { return input(i).dims; }
  int rank(size_t i) const { return static_cast<int>(input(i).dims.size()); }
  // The dtype that the graph gives an output of the node; Undefined where it is left out or not known.
  DType declared(size_t i) const {
    return wants(i) ? graph_.value(node_.outputs[i]).type.dtype : DType::Undefined;
  }
  // The value of an operand declared in Operator::host_operands, or of a constant; null otherwise.
  // It lives as long as this context: copy what the kernel needs.
  const Tensor* host(size_t i) const { return i < inputs_.size() ? inputs_[i].host : nullptr; }
  // The value of input i if it is a constant of the graph: safe to pack and keep (share its buffer).
  const Tensor* constant(size_t i) const {
    return i < inputs_.size() && inputs_[i].constant ? inputs_[i].host : nullptr;
  }
  // host(i) as integers; InputError when it is not known.
  std::vector<int64_t> host_ints(size_t i) const;

  // The output will have this dtype and shape and is allocated before the kernel runs. Nothing happens for
  // an output that nobody wants, but for the first: a kernel that can leave that out does not declare it.
  void output(size_t i, DType dtype, Dims dims);
  // The output is the bytes of input `in` under other dims: nothing to run, nothing copied.
  void alias(size_t i, size_t in, Dims dims) { view(i, in, std::move(dims), 0); }
  // The output is a part of these bytes, in memory order from element `first` on. A part of an input, unlike
  // the whole, asks for may_view(i).
  void view(size_t i, size_t in, Dims dims, int64_t first);
  // Whether output i may be a part of an input: not where it may outlive it.
  bool may_view(size_t i) const { return i < viewable_.size() && viewable_[i]; }
  // Input i may have been written where output 0 has these bytes, in memory order from element `first` on:
  // the kernel copies only the inputs that lie elsewhere. In the layout that output 0 has.
  void may_lie_in_output(size_t i, int64_t first) { inputs_[i].place = first; }
  // Output i (already declared) may be written into the memory of input `in`: the kernel reads each
  // element before it writes it. Holds only for equal byte sizes.
  void may_share(size_t i, size_t in);
  // The outputs follow from the shapes of the inputs: no input is read.
  void reads_no_input() { reads_no_input_ = true; }

  // For kernels added with LayoutRule::Aware. False: every input is plain, and every output has to be.
  bool layouts() const { return layouts_; }
  Layout layout(size_t i) const { return input(i).layout; }
  // The kernel reads input i in this layout, whatever it came in.
  void want(size_t i, Layout layout) { inputs_[i].wanted = layout; }
  // Input i as it is: the kernel reads any layout of it.
  Layout take(size_t i) {
    const Layout layout = layouts_ ? inputs_[i].desc.layout : Layout::Plain;
    inputs_[i].wanted = layout;
    return layout;
  }
  // After output(i, ...) or alias(i, ...).
  void output_layout(size_t i, Layout layout) { outputs_[i].desc.layout = layout; }
  // The elementwise nodes that read output 0 and one another, in order. A kernel may compute the first
  // `count` of them too, if the last of these closes; output 0 is then what that one makes.
  const std::vector<Follower>& followers() const { return followers_; }
  void absorb(size_t count) { absorbed_ = count; }
  // Bytes of scratch memory, 64-byte aligned, that RunContext::scratch gives; the largest request counts.
  void scratch(size_t bytes) { scratch_ = std::max(scratch_, bytes); }
  // Threads that the kernel may use.
  int threads() const { return threads_; }
  // A body among the attributes.
  std::shared_ptr<Body> body(const std::string& attribute) const;

  // Throws InputError about this node.
  [[noreturn]] void fail(const std::string& what, const std::string& expected = "",
                         const std::string& got = "") const;
  void expect(bool ok, const std::string& what, const std::string& expected = "",
              const std::string& got = "") const {
    if (!ok) fail(what, expected, got);
  }

  // For the runtime.
  std::vector<Input> inputs_;
  std::vector<Output> outputs_;
  std::map<std::string, std::shared_ptr<Body>> bodies_;
  size_t scratch_ = 0;
  int threads_ = 1;
  bool layouts_ = false, reads_no_input_ = false;
  std::vector<Follower> followers_;
  size_t absorbed_ = 0;
  std::vector<char> viewable_;  // parallel to outputs

 private:
  const Graph& graph_;
  const Node& node_;
};

// Set from any thread; a run that sees it ends with CancelledError.
using CancelFlag = std::shared_ptr<std::atomic<bool>>;

// Where randomness comes from: Philox keyed by seed, with the counter (stream, step, element).
struct RandomState {
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t loop_path = 0;  // a hash of the turns of the loops around the node
};

// The turns that the loops of one run have taken together, in whatever depth.
struct LoopBudget {
  int64_t limit = 0;
  int64_t taken = 0;
};

// One execution of one node.
class RunContext {
 public:
  const Node& node() const { return *node_; }
  template <typename T>
  const T* in(size_t i) const {
    return i < inputs_.size() && inputs_[i].is_tensor() ? inputs_[i].tensor().template data<T>() : nullptr;
  }
  template <typename T>
  T* out(size_t i) {
    return i < outputs_.size() && outputs_[i].is_tensor() ? outputs_[i].tensor().template mutable_data<T>()
                                                          : nullptr;
  }
  // Undefined where the input was omitted.
  const Tensor& input(size_t i) const { return inputs_[i].tensor(); }
  bool has_input(size_t i) const { return i < inputs_.size() && inputs_[i].defined(); }
  bool wants(size_t i) const { return i < node_->outputs.size() && node_->outputs[i] != kNone; }
  const Value& value(size_t i) const { return inputs_[i]; }
  // An output declared in PrepareContext.
  Tensor& output(size_t i) { return outputs_[i].tensor(); }
  // An output whose shape is found while running; host memory unless the provider says otherwise.
  Tensor& allocate(size_t i, DType dtype, Dims dims);
  void set_output(size_t i, Value value) {
    if (i < outputs_.size()) outputs_[i] = std::move(value);
  }
  const Value& captured(size_t i) const { return captures_[i]; }
  std::byte* scratch() const { return scratch_; }
  // What a kernel keeps for the next run of this context, of one type; made when it is first asked for. Where
  // contexts are not kept, it is made anew in each run.
  template <typename T>
  T& kept() {
    if (!kept_) kept_ = std::make_shared<T>();
    return *static_cast<T*>(kept_.get());
  }
  const RandomState& random() const { return random_; }
  // CancelledError when the run was cancelled; for kernels that loop for long.
  void check_cancelled() const {
    if (cancel_ && cancel_->load(std::memory_order_relaxed)) throw CancelledError("run cancelled");
  }
  // Before each turn of a loop: CancelledError as above, LimitError past Limits::max_loop_iterations.
  void begin_turn() const {
    check_cancelled();
    if (loops_ && ++loops_->taken > loops_->limit)
      throw LimitError("turns of the loops of a run",
                       "at most " + std::to_string(loops_->limit) + " (max_loop_iterations)", "more");
  }
  [[noreturn]] void fail(const std::string& what, const std::string& expected = "",
                         const std::string& got = "") const {
    throw InputError(what, expected, got);
  }

  // For the runtime.
  const Node* node_ = nullptr;
  std::vector<Value> inputs_, outputs_, captures_;
  std::byte* scratch_ = nullptr;
  std::shared_ptr<void> kept_;
  CancelFlag cancel_;
  LoopBudget* loops_ = nullptr;  // null: unbounded
  RandomState random_;
  uint64_t body_calls_ = 0;  // how often bodies of this node have run in this execution
  void* run_ = nullptr;      // the run that this belongs to
  std::shared_ptr<Buffer> (*allocate_)(void* run, size_t bytes) = nullptr;
};

using PrepareKernel = std::function<Prepared(PrepareContext&)>;

// What a kernel can do about layouts. Plain: it reads and writes plain tensors; the planner brings inputs
// into that order. Aware: it looks at PrepareContext::layout, calls want and output_layout, and sees
// followers. (Operators declared elementwise need neither: their kernels are given the dims in memory order.)
enum class LayoutRule : uint8_t { Plain, Aware };

struct KernelEntry {
  std::string name;  // "onednn", "simd", "ref"
  int order;         // lower is asked first
  PrepareKernel prepare;
  LayoutRule layouts = LayoutRule::Plain;
};

// Positions in the ordered list of kernels of an operator; the list ends in ref.
inline constexpr int kFirst = 10, kSecond = 20, kThird = 30, kRef = 1000;

// The kernels of one provider. Each operator has an ordered list; the first that does not decline wins.
class KernelRegistry {
 public:
  void add(const std::string& op, const std::string& kernel, int order, PrepareKernel prepare,
           const std::string& domain = "", LayoutRule layouts = LayoutRule::Plain);
  void add_aware(const std::string& op, const std::string& kernel, int order, PrepareKernel prepare) {
    add(op, kernel, order, std::move(prepare), "", LayoutRule::Aware);
  }
  // A plain loop for every dtype that the specification allows; the last in the list.
  void ref(const std::string& op, PrepareKernel prepare, const std::string& domain = "") {
    add(op, "ref", kRef, std::move(prepare), domain);
  }
  void ref_aware(const std::string& op, PrepareKernel prepare) {
    add_aware(op, "ref", kRef, std::move(prepare));
  }
  // In order; empty when there is none.
  const std::vector<KernelEntry>& find(const std::string& domain, const std::string& op) const;
  const std::map<std::pair<std::string, std::string>, std::vector<KernelEntry>>& all() const {
    return kernels_;
  }

 private:
  std::map<std::pair<std::string, std::string>, std::vector<KernelEntry>> kernels_;
};

}  // namespace sardonyx
