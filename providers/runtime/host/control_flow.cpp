// If, Loop, Scan and SequenceMap: kernels that run bodies.
#include "ops/control_flow.h"

#include <limits>

#include "providers/kernel.h"
#include "providers/runtime/host/blocks.h"

namespace sardonyx::host {

namespace {

// The type a body declares for one of its outputs.
const Type& output_type(const Body& body, size_t i) {
  const Graph& graph = body.graph();
  return graph.value(graph.outputs()[i]).type;
}

void expect_ports(PrepareContext& ctx, const Body& body, size_t inputs, size_t outputs,
                  const std::string& name) {
  ctx.expect(body.graph().inputs().size() == inputs, "inputs of '" + name + "'", std::to_string(inputs),
             std::to_string(body.graph().inputs().size()));
  ctx.expect(body.graph().outputs().size() == outputs, "outputs of '" + name + "'", std::to_string(outputs),
             std::to_string(body.graph().outputs().size()));
}

bool is_true(RunContext& run, const Value& value, const char* what) {
  const Tensor& tensor = value.tensor();
  if (tensor.dtype() != DType::Bool || tensor.size() != 1)
    run.fail(what, "one bool", std::string(dtype_name(tensor.dtype())) + to_string(tensor.dims()));
  return *tensor.data<bool>();
}

// The results of all turns along a new axis, in the order of the turns or backwards. Without a turn the type
// that the body declares says what it can: dimensions that are not known become 0.
Tensor stack(RunContext& run, const std::vector<Tensor>& turns, int64_t axis_wanted, bool backwards,
             const Type& declared) {
  const int64_t n = static_cast<int64_t>(turns.size());
  Dims dims;
  DType dtype = declared.dtype;
  if (n > 0) {
    dims = turns[0].dims();
    dtype = turns[0].dtype();
  } else if (declared.shape) {
    for (const Dim& dim : *declared.shape) dims.push_back(dim.known() ? dim.value : 0);
  }
  if (dtype == DType::Undefined)
    run.fail("type of a scan output", "one that the body declares, when there is no turn");
  const size_t axis = static_cast<size_t>(
      normalize_axis(axis_wanted, static_cast<int>(dims.size()) + 1, "axis of a scan output"));
  for (const Tensor& turn : turns)
    if (turn.dims() != dims || turn.dtype() != dtype)
      run.fail("a scan output", "the same in all turns: " + std::string(dtype_name(dtype)) + to_string(dims),
               dtype_name(turn.dtype()) + to_string(turn.dims()));
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), n);
  element_count(dims);
  Tensor result(dtype, dims);
  const Blocks blocks(dims, axis);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t place = backwards ? n - 1 - i : i;
    copy_rows(result, place * blocks.inner, n * blocks.inner, turns[static_cast<size_t>(i)], 0, blocks.inner,
              blocks.inner, blocks.outer);
  }
  return result;
}

Prepared prepare_if(PrepareContext& ctx) {
  const auto then_branch = ctx.body("then_branch"), else_branch = ctx.body("else_branch");
  const size_t outputs = ctx.output_count();
  expect_ports(ctx, *then_branch, 0, outputs, "then_branch");
  expect_ports(ctx, *else_branch, 0, outputs, "else_branch");
  return [=](RunContext& run) {
    Body& body = is_true(run, run.value(0), "input 'cond'") ? *then_branch : *else_branch;
    std::vector<Value> results = body.run(run, {});
    for (size_t i = 0; i < outputs; ++i) run.set_output(i, std::move(results[i]));
  };
}

// The trip count of a loop that has none.
constexpr int64_t kForever = std::numeric_limits<int64_t>::max();

Prepared prepare_loop(PrepareContext& ctx) {
  const auto body = ctx.body("body");
  const size_t states = ctx.input_count() < 2 ? 0 : ctx.input_count() - 2;
  ctx.expect(ctx.output_count() >= states, "outputs",
             "at least the " + std::to_string(states) + " carried values",
             std::to_string(ctx.output_count()));
  const size_t scans = ctx.output_count() - states;
  expect_ports(ctx, *body, states + 2, states + scans + 1, "body");
  const bool counted = ctx.has_input(0), tested = ctx.has_input(1);
  // The specification ignores the body's condition when the input is omitted; without a trip count either
  // it is the only way to end.
  const bool obeys = tested || !counted;
  return [=](RunContext& run) {
    int64_t most = kForever;
    if (counted) {
      const auto given = run.input(0).to_int64s();
      if (given.size() != 1) run.fail("elements of input 'M'", "1", std::to_string(given.size()));
      most = given[0];
    }
    bool go_on = tested ? is_true(run, run.value(1), "input 'cond'") : true;
    std::vector<Value> carried;
    for (size_t i = 0; i < states; ++i) carried.push_back(run.value(i + 2));
    std::vector<std::vector<Tensor>> collected(scans);
    for (int64_t turn = 0; turn < most && go_on; ++turn) {
      run.begin_turn();
      std::vector<Value> inputs{Tensor::scalar<int64_t>(turn), Tensor::scalar<bool>(go_on)};
      for (Value& value : carried) inputs.push_back(std::move(value));
      std::vector<Value> results = body->run(run, std::move(inputs));
      const bool condition = is_true(run, results[0], "condition that the body returns");
      if (obeys) go_on = condition;
      for (size_t i = 0; i < states; ++i) carried[i] = std::move(results[i + 1]);
      for (size_t i = 0; i < scans; ++i)
        if (run.wants(states + i)) collected[i].push_back(results[states + 1 + i].tensor());
    }
    for (size_t i = 0; i < states; ++i) run.set_output(i, std::move(carried[i]));
    for (size_t i = 0; i < scans; ++i)
      if (run.wants(states + i))
        run.set_output(states + i, stack(run, collected[i], 0, false, output_type(*body, states + 1 + i)));
  };
}

// The axes or directions of the scan inputs or outputs: all 0 when the attribute is absent.
std::vector<int64_t> flags(PrepareContext& ctx, const std::optional<std::vector<int64_t>>& attribute,
                           size_t n, const char* name) {
  std::vector<int64_t> result = attribute.value_or(std::vector<int64_t>(n, 0));
  ctx.expect(result.size() == n, std::string("length of attribute '") + name + "'", std::to_string(n),
             std::to_string(result.size()));
  return result;
}

std::vector<int64_t> directions(PrepareContext& ctx, const std::optional<std::vector<int64_t>>& attribute,
                                size_t n, const char* name) {
  auto result = flags(ctx, attribute, n, name);
  for (const int64_t d : result)
    ctx.expect(d == 0 || d == 1, std::string("attribute '") + name + "'", "0 or 1", std::to_string(d));
  return result;
}

// Element `i` along an axis, without that axis.
Tensor element_at(const Tensor& tensor, size_t axis, int64_t i) {
  Dims dims = tensor.dims();
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  const Blocks blocks(tensor.dims(), axis);
  const size_t offset = static_cast<size_t>(i * blocks.inner) * element_size(tensor.dtype());
  if (blocks.outer == 1)
    return Tensor(tensor.dtype(), std::move(dims), tensor.buffer(), tensor.offset() + offset);
  Tensor result(tensor.dtype(), std::move(dims));
  copy_rows(result, 0, blocks.inner, tensor, i * blocks.inner, blocks.size * blocks.inner, blocks.inner,
            blocks.outer);
  return result;
}

Prepared prepare_scan(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ScanAttributes>();
  const auto body = ctx.body("body");
  const int64_t given = attributes.num_scan_inputs.value_or(0);
  ctx.expect(given >= 1 && given <= static_cast<int64_t>(ctx.input_count()), "attribute 'num_scan_inputs'",
             "1 to " + std::to_string(ctx.input_count()), std::to_string(given));
  const size_t scanned = static_cast<size_t>(given), states = ctx.input_count() - scanned;
  ctx.expect(ctx.output_count() >= states, "outputs", "at least the " + std::to_string(states) + " states",
             std::to_string(ctx.output_count()));
  const size_t scans = ctx.output_count() - states;
  expect_ports(ctx, *body, states + scanned, states + scans, "body");
  const auto in_axes = flags(ctx, attributes.scan_input_axes, scanned, "scan_input_axes");
  const auto in_backwards =
      directions(ctx, attributes.scan_input_directions, scanned, "scan_input_directions");
  const auto out_axes = flags(ctx, attributes.scan_output_axes, scans, "scan_output_axes");
  const auto out_backwards =
      directions(ctx, attributes.scan_output_directions, scans, "scan_output_directions");
  std::vector<size_t> axes;
  int64_t turns = 0;
  for (size_t i = 0; i < scanned; ++i) {
    axes.push_back(
        static_cast<size_t>(normalize_axis(in_axes[i], ctx.rank(states + i), "axis of a scan input")));
    const int64_t length = ctx.dims(states + i)[axes[i]];
    if (i == 0) turns = length;
    ctx.expect(length == turns, "length of scan input " + std::to_string(i), std::to_string(turns),
               std::to_string(length));
  }
  return [=](RunContext& run) {
    std::vector<Value> carried;
    for (size_t i = 0; i < states; ++i) carried.push_back(run.value(i));
    std::vector<std::vector<Tensor>> collected(scans);
    for (int64_t turn = 0; turn < turns; ++turn) {
      run.begin_turn();
      std::vector<Value> inputs = std::move(carried);
      for (size_t i = 0; i < scanned; ++i)
        inputs.emplace_back(
            element_at(run.input(states + i), axes[i], in_backwards[i] ? turns - 1 - turn : turn));
      std::vector<Value> results = body->run(run, std::move(inputs));
      carried.assign(std::make_move_iterator(results.begin()),
                     std::make_move_iterator(results.begin() + static_cast<std::ptrdiff_t>(states)));
      for (size_t i = 0; i < scans; ++i)
        if (run.wants(states + i)) collected[i].push_back(results[states + i].tensor());
    }
    for (size_t i = 0; i < states; ++i) run.set_output(i, std::move(carried[i]));
    for (size_t i = 0; i < scans; ++i)
      if (run.wants(states + i))
        run.set_output(states + i, stack(run, collected[i], out_axes[i], out_backwards[i] == 1,
                                         output_type(*body, states + i)));
  };
}

Prepared prepare_sequence_map(PrepareContext& ctx) {
  const auto body = ctx.body("body");
  const size_t inputs = ctx.input_count(), outputs = ctx.output_count();
  expect_ports(ctx, *body, inputs, outputs, "body");
  return [=](RunContext& run) {
    const size_t n = run.value(0).sequence().items.size();
    for (size_t i = 1; i < inputs; ++i)
      if (run.value(i).is_sequence() && run.value(i).sequence().items.size() != n)
        run.fail("length of sequence " + std::to_string(i), std::to_string(n),
                 std::to_string(run.value(i).sequence().items.size()));
    std::vector<Sequence> made(outputs);
    for (size_t o = 0; o < outputs; ++o) made[o].element = output_type(*body, o).dtype;
    for (size_t turn = 0; turn < n; ++turn) {
      run.begin_turn();
      std::vector<Value> values;
      for (size_t i = 0; i < inputs; ++i)
        values.push_back(run.value(i).is_sequence() ? run.value(i).sequence().items[turn] : run.value(i));
      std::vector<Value> results = body->run(run, std::move(values));
      for (size_t o = 0; o < outputs; ++o) {
        made[o].element = results[o].tensor().dtype();
        made[o].items.push_back(std::move(results[o]));
      }
    }
    for (size_t o = 0; o < outputs; ++o) run.set_output(o, std::move(made[o]));
  };
}

}  // namespace

void register_control_flow(KernelRegistry& registry) {
  registry.ref("If", prepare_if);
  registry.ref("Loop", prepare_loop);
  registry.ref("Scan", prepare_scan);
  registry.ref("SequenceMap", prepare_sequence_map);
}

}  // namespace sardonyx::host
