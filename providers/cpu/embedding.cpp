// The look-up of whole rows of a table.
#include <algorithm>
#include <cstring>

#include "ops/indexing.h"
#include "providers/cpu/support/indices.h"
#include "providers/cpu/support/parallel.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

constexpr int64_t kLine = 64;

Prepared prepare_rows(PrepareContext& ctx) {
  const Dims& table = ctx.dims(0);
  const Dims& indices = ctx.dims(1);
  if (!is_index_type(ctx.dtype(1))) return decline("only int32 and int64 indices");
  if (ctx.dtype(0) == DType::String) return decline("only elements that are plain bytes");
  if (normalize_axis(ctx.attributes<GatherAttributes>().axis, ctx.rank(0)) != 0)
    return decline("only axis 0");
  Dims dims = indices;
  dims.insert(dims.end(), table.begin() + 1, table.end());
  const int64_t n = ctx.input(1).size(), rows = table[0];
  if (element_count(dims) == 0) return decline("nothing to copy");
  const int64_t bytes = element_count(dims) / n * static_cast<int64_t>(element_size(ctx.dtype(0)));
  if (bytes < kLine) return decline("rows shorter than a cache line");
  ctx.output(0, ctx.dtype(0), std::move(dims));
  return [n, rows, bytes](RunContext& run) {
    const Indices indices(run.input(1));
    const char* in = static_cast<const char*>(run.input(0).data());
    char* out = static_cast<char*>(run.output(0).mutable_data());
    // Rows lie anywhere: the first lines of a row a few ahead are asked for while this one is copied.
    constexpr int64_t ahead = 4;
    const int64_t asked = std::min<int64_t>(bytes, 8 * kLine);
    parallel_for(n, grain_for(20 + static_cast<double>(bytes) * 0.15), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (i + ahead < end) {
          const char* next = in + indices.at(i + ahead, rows) * bytes;
          for (int64_t line = 0; line < asked; line += kLine) __builtin_prefetch(next + line);
        }
        std::memcpy(out + i * bytes, in + indices.at(i, rows) * bytes, static_cast<size_t>(bytes));
      }
    });
  };
}

}  // namespace

void register_embedding(KernelRegistry& registry) { registry.add("Gather", "rows", kFirst, prepare_rows); }

}  // namespace sardonyx::cpu
