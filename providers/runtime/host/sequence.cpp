// Sequences of tensors, and optionals.
#include "ops/sequence.h"

#include "graph/allocation.h"
#include "providers/kernel.h"
#include "providers/runtime/host/blocks.h"

namespace sardonyx::host {

namespace {

void expect_dtype(RunContext& run, DType element, const Tensor& tensor) {
  if (element != DType::Undefined && element != tensor.dtype())
    run.fail("type of a tensor in the sequence", dtype_name(element), dtype_name(tensor.dtype()));
}

// The one integer of input i; `position` says in messages what it is.
int64_t integer(RunContext& run, size_t i) {
  const auto values = run.input(i).to_int64s();
  if (values.size() != 1)
    run.fail("elements of input " + std::to_string(i), "1", std::to_string(values.size()));
  return values[0];
}

// Input i as a position in [-n, last], or n + `fallback` when it was omitted.
size_t position(RunContext& run, size_t i, size_t n, int64_t last, int64_t omitted) {
  if (!run.has_input(i)) return static_cast<size_t>(omitted);
  const int64_t given = integer(run, i), size = static_cast<int64_t>(n);
  if (given < -size || given > last)
    run.fail("position in a sequence of " + std::to_string(n),
             "[" + std::to_string(-size) + ", " + std::to_string(last) + "]", std::to_string(given));
  return static_cast<size_t>(given < 0 ? given + size : given);
}

Prepared prepare_sequence_construct(PrepareContext& ctx) {
  const size_t n = ctx.input_count();
  return [n](RunContext& run) {
    Sequence sequence;
    for (size_t i = 0; i < n; ++i) {
      if (i == 0) sequence.element = run.input(0).dtype();
      expect_dtype(run, sequence.element, run.input(i));
      sequence.items.push_back(run.value(i));
    }
    run.set_output(0, std::move(sequence));
  };
}

Prepared prepare_sequence_empty(PrepareContext& ctx) {
  const int64_t dtype =
      ctx.attributes<SequenceEmptyAttributes>().dtype.value_or(static_cast<int64_t>(DType::Float32));
  ctx.expect(is_valid_dtype(static_cast<int32_t>(dtype)), "attribute 'dtype'", "an element type",
             std::to_string(dtype));
  return [dtype](RunContext& run) { run.set_output(0, Sequence{static_cast<DType>(dtype), {}}); };
}

Prepared prepare_sequence_insert(PrepareContext&) {
  return [](RunContext& run) {
    Sequence sequence = run.value(0).sequence();
    const int64_t n = static_cast<int64_t>(sequence.items.size());
    expect_dtype(run, sequence.element, run.input(1));
    sequence.element = run.input(1).dtype();
    const size_t at = position(run, 2, sequence.items.size(), n, n);
    sequence.items.insert(sequence.items.begin() + static_cast<std::ptrdiff_t>(at), run.value(1));
    run.set_output(0, std::move(sequence));
  };
}

Prepared prepare_sequence_erase(PrepareContext&) {
  return [](RunContext& run) {
    Sequence sequence = run.value(0).sequence();
    const int64_t n = static_cast<int64_t>(sequence.items.size());
    if (n == 0) run.fail("sequence", "1 or more elements", "none");
    const size_t at = position(run, 1, sequence.items.size(), n - 1, n - 1);
    sequence.items.erase(sequence.items.begin() + static_cast<std::ptrdiff_t>(at));
    run.set_output(0, std::move(sequence));
  };
}

Prepared prepare_sequence_at(PrepareContext&) {
  return [](RunContext& run) {
    const Sequence& sequence = run.value(0).sequence();
    const int64_t n = static_cast<int64_t>(sequence.items.size());
    run.set_output(0, sequence.items[position(run, 1, sequence.items.size(), n - 1, n - 1)]);
  };
}

Prepared prepare_sequence_length(PrepareContext&) {
  return [](RunContext& run) {
    run.set_output(0, Tensor::scalar<int64_t>(static_cast<int64_t>(run.value(0).sequence().items.size())));
  };
}

Prepared prepare_concat_from_sequence(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ConcatFromSequenceAttributes>();
  ctx.expect(attributes.axis.has_value(), "attribute 'axis'", "an axis");
  ctx.expect(attributes.new_axis == 0 || attributes.new_axis == 1, "attribute 'new_axis'", "0 or 1",
             std::to_string(attributes.new_axis));
  const int64_t wanted = *attributes.axis;
  const bool stack = attributes.new_axis == 1;
  return [wanted, stack](RunContext& run) {
    const std::vector<Value>& items = run.value(0).sequence().items;
    if (items.empty()) run.fail("sequence", "1 or more tensors", "none");
    const Tensor& first = items[0].tensor();
    const size_t axis = static_cast<size_t>(normalize_axis(wanted, first.rank() + (stack ? 1 : 0)));
    Dims dims = first.dims();
    if (stack) dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), 1);
    int64_t total = 0;
    std::vector<Dims> parts;
    for (const Value& item : items) {
      Dims part = item.tensor().dims();
      expect_dtype(run, first.dtype(), item.tensor());
      if (stack && part == first.dims()) part.insert(part.begin() + static_cast<std::ptrdiff_t>(axis), 1);
      dims[axis] = part.size() == dims.size() ? part[axis] : 0;
      if (part != dims)
        run.fail("dims of element " + std::to_string(parts.size()),
                 to_string(first.dims()) + (stack ? "" : " but for axis " + std::to_string(axis)),
                 to_string(item.tensor().dims()));
      total = checked_add(total, part[axis], "dimension of ConcatFromSequence");
      parts.push_back(std::move(part));
    }
    dims[axis] = total;
    Tensor& out = run.allocate(0, first.dtype(), dims);
    const Blocks whole(dims, axis);
    int64_t offset = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      const int64_t width = parts[i][axis] * whole.inner;
      copy_rows(out, offset, total * whole.inner, items[i].tensor(), 0, width, width, whole.outer);
      offset += width;
    }
  };
}

Prepared prepare_split_to_sequence(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<SplitToSequenceAttributes>();
  const size_t axis = static_cast<size_t>(normalize_axis(attributes.axis, ctx.rank(0)));
  const bool given = ctx.has_input(1), scalar = given && ctx.rank(1) == 0;
  ctx.expect(!given || ctx.rank(1) <= 1, "rank of input 'split'", "0 or 1",
             given ? std::to_string(ctx.rank(1)) : "");
  const bool squeeze = !given && attributes.keepdims == 0;
  return [=](RunContext& run) {
    const Tensor& in = run.input(0);
    const Blocks whole(in.dims(), axis);
    std::vector<int64_t> sizes;
    if (given) sizes = run.input(1).to_int64s();
    if (!given || scalar) {
      const int64_t chunk = given ? sizes[0] : 1;
      if (chunk <= 0) run.fail("input 'split'", "1 or more", std::to_string(chunk));
      sizes.clear();
      // Tensors without elements take memory too.
      const int64_t count = whole.size / chunk + (whole.size % chunk != 0);
      check_available(static_cast<size_t>(
          checked_mul(count, sizeof(int64_t) + sizeof(Value) + sizeof(Buffer), "items of a sequence")));
      for (int64_t at = 0; at < whole.size; at += sizes.back())
        sizes.push_back(std::min(chunk, whole.size - at));
    }
    int64_t sum = 0;
    for (const int64_t size : sizes) {
      if (size < 0) run.fail("input 'split'", "sizes >= 0", to_string(sizes));
      sum = checked_add(sum, size, "sum of input 'split'");
    }
    if (sum != whole.size)
      run.fail("sum of input 'split' " + to_string(sizes), std::to_string(whole.size), std::to_string(sum));
    Sequence sequence{in.dtype(), {}};
    int64_t offset = 0;
    for (const int64_t size : sizes) {
      run.check_cancelled();
      Dims dims = in.dims();
      dims[axis] = size;
      if (squeeze) dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
      Tensor part(in.dtype(), std::move(dims));
      copy_rows(part, 0, size * whole.inner, in, offset, whole.size * whole.inner, size * whole.inner,
                whole.outer);
      offset += size * whole.inner;
      sequence.items.emplace_back(std::move(part));
    }
    run.set_output(0, std::move(sequence));
  };
}

Prepared prepare_optional(PrepareContext&) {
  return [](RunContext& run) { run.set_output(0, run.has_input(0) ? run.value(0) : Value(Nothing())); };
}

Prepared prepare_optional_has_element(PrepareContext&) {
  return [](RunContext& run) {
    run.set_output(0, Tensor::scalar<bool>(run.has_input(0) && !run.value(0).is_nothing()));
  };
}

Prepared prepare_optional_get_element(PrepareContext&) {
  return [](RunContext& run) {
    if (!run.has_input(0) || run.value(0).is_nothing())
      run.fail("optional", "an element", "an empty optional");
    run.set_output(0, run.value(0));
  };
}

}  // namespace

void register_sequence(KernelRegistry& registry) {
  registry.ref("SequenceConstruct", prepare_sequence_construct);
  registry.ref("SequenceEmpty", prepare_sequence_empty);
  registry.ref("SequenceInsert", prepare_sequence_insert);
  registry.ref("SequenceErase", prepare_sequence_erase);
  registry.ref("SequenceAt", prepare_sequence_at);
  registry.ref("SequenceLength", prepare_sequence_length);
  registry.ref("ConcatFromSequence", prepare_concat_from_sequence);
  registry.ref("SplitToSequence", prepare_split_to_sequence);
  registry.ref("Optional", prepare_optional);
  registry.ref("OptionalHasElement", prepare_optional_has_element);
  registry.ref("OptionalGetElement", prepare_optional_get_element);
}

}  // namespace sardonyx::host
