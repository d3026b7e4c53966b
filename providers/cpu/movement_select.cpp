// Operators that choose elements by values known only while running: lengths, conditions, non-zeros.
#include <algorithm>
#include <numeric>

#include "ops/movement.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/strided.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

Prepared prepare_reverse_sequence(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ReverseSequenceAttributes>();
  const Dims& dims = ctx.dims(0);
  ctx.expect(dims.size() >= 2, "rank of the input", "2 or more", std::to_string(dims.size()));
  const int64_t time = attributes.time_axis, batch = attributes.batch_axis;
  ctx.expect((time == 0 && batch == 1) || (time == 1 && batch == 0),
             "attributes 'time_axis' and 'batch_axis'", "0 and 1, or 1 and 0",
             std::to_string(time) + " and " + std::to_string(batch));
  const int64_t steps = dims[static_cast<size_t>(time)], sequences = dims[static_cast<size_t>(batch)];
  ctx.expect(ctx.dims(1) == Dims{sequences}, "dims of input 'sequence_lens'", to_string(Dims{sequences}),
             to_string(ctx.dims(1)));
  const int64_t rows = dims[0] * dims[1], columns = dims[1];
  const int64_t inner = element_count(Dims(dims.begin() + 2, dims.end()));
  const DType dtype = ctx.dtype(0);
  ctx.output(0, dtype, dims);
  return [=](RunContext& run) {
    const int64_t* lengths = run.in<int64_t>(1);
    for (int64_t b = 0; b < sequences; ++b)
      if (lengths[b] < 0 || lengths[b] > steps)
        run.fail("input 'sequence_lens' [" + std::to_string(b) + "]", "0 to " + std::to_string(steps),
                 std::to_string(lengths[b]));
    visit_storage(dtype, [&]<typename T>() {
      const T* in = run.in<T>(0);
      T* out = run.out<T>(0);
      parallel_for(rows, grain_for(3 + static_cast<double>(inner) * 0.5), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t i = row / columns, j = row % columns;
          const int64_t t = time == 0 ? i : j, b = time == 0 ? j : i;
          const int64_t from = t < lengths[b] ? lengths[b] - 1 - t : t;
          const T* source = in + (time == 0 ? from * columns + b : b * columns + from) * inner;
          std::copy(source, source + inner, out + row * inner);
        }
      });
    });
  };
}

Prepared prepare_compress(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<CompressAttributes>();
  const Dims& dims = ctx.dims(0);
  ctx.expect(ctx.rank(1) == 1, "rank of input 'condition'", "1", std::to_string(ctx.rank(1)));
  Dims kept{ctx.input(0).size()};
  size_t axis = 0;
  if (attributes.axis) {
    axis = static_cast<size_t>(normalize_axis(*attributes.axis, ctx.rank(0)));
    kept = dims;
  }
  int64_t outer = 1, inner = 1;
  for (size_t i = 0; i < axis; ++i) outer = checked_mul(outer, kept[i], "elements of Compress");
  for (size_t i = axis + 1; i < kept.size(); ++i) inner = checked_mul(inner, kept[i], "elements of Compress");
  const int64_t dim = kept[axis], conditions = ctx.dims(1)[0];
  const DType dtype = ctx.dtype(0);
  return [=](RunContext& run) {
    const bool* condition = run.in<bool>(1);
    std::vector<int64_t> chosen;
    for (int64_t i = 0; i < conditions; ++i) {
      if (!condition[i]) continue;
      if (i >= dim)
        run.fail("input 'condition' chooses element " + std::to_string(i), "below " + std::to_string(dim));
      chosen.push_back(i);
    }
    const int64_t count = static_cast<int64_t>(chosen.size());
    Dims out_dims = kept;
    out_dims[axis] = count;
    run.allocate(0, dtype, out_dims);
    visit_storage(dtype, [&]<typename T>() {
      const T* in = run.in<T>(0);
      T* out = run.out<T>(0);
      parallel_for(
          outer * count, grain_for(3 + static_cast<double>(inner) * 0.5), [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) {
              const T* source = in + (row / count * dim + chosen[static_cast<size_t>(row % count)]) * inner;
              std::copy(source, source + inner, out + row * inner);
            }
          });
    });
  };
}

template <typename T>
bool is_nonzero(const T& value) {
  if constexpr (std::is_same_v<T, std::string>)
    return !value.empty();
  else if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>)
    return (value.bits & 0x7fff) != 0;
  else
    return value != T{};
}

// The positions of the elements that are not zero, coordinate by coordinate: counted in chunks first, so
// that every chunk knows where its part of the output begins.
template <typename T>
void non_zero(RunContext& run, const Dims& dims, int64_t n) {
  constexpr int64_t chunk = 4096;
  const int64_t chunks = (n + chunk - 1) / chunk;
  const T* in = run.in<T>(0);
  std::vector<int64_t> first(static_cast<size_t>(chunks) + 1, 0);
  parallel_for(chunks, grain_for(chunk), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      int64_t count = 0;
      for (int64_t i = c * chunk; i < std::min(n, (c + 1) * chunk); ++i) count += is_nonzero(in[i]) ? 1 : 0;
      first[static_cast<size_t>(c) + 1] = count;
    }
  });
  std::partial_sum(first.begin(), first.end(), first.begin());
  const int64_t total = first.back(), rank = static_cast<int64_t>(dims.size());
  int64_t* out = run.allocate(0, DType::Int64, {rank, total}).mutable_data<int64_t>();
  parallel_for(chunks, grain_for(chunk * 2), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      int64_t to = first[static_cast<size_t>(c)];
      for (int64_t i = c * chunk; i < std::min(n, (c + 1) * chunk); ++i) {
        if (!is_nonzero(in[i])) continue;
        for (int64_t d = rank - 1, rest = i; d >= 0; --d) {
          out[d * total + to] = rest % dims[static_cast<size_t>(d)];
          rest /= dims[static_cast<size_t>(d)];
        }
        ++to;
      }
    }
  });
}

Prepared prepare_non_zero(PrepareContext& ctx) {
  const Dims dims = ctx.dims(0);
  const int64_t n = ctx.input(0).size();
  Prepared result = decline("no zero of this type");
  visit<Join<Join<AllNumbers, Complexes>, Types<bool, std::string>>>(ctx.dtype(0), [&]<typename T>() {
    result = [dims, n](RunContext& run) { non_zero<T>(run, dims, n); };
  });
  return result;
}

}  // namespace

void register_movement_select(KernelRegistry& registry) {
  registry.ref("ReverseSequence", prepare_reverse_sequence);
  registry.ref("Compress", prepare_compress);
  registry.ref("NonZero", prepare_non_zero);
}

}  // namespace sardonyx::cpu
