// RotaryEmbedding: pairs of elements turned by the angle of their position.
#include "ops/attention.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

#include "graph/shape.h"

namespace sardonyx::cpu {
namespace {

Prepared prepare_f32(PrepareContext& ctx) {
  const auto a = ctx.attributes<RotaryEmbeddingAttributes>();
  const Dims& x = ctx.dims(0);
  ctx.expect(x.size() == 3 || x.size() == 4, "input 'X'", "rank 3 or 4", to_string(x));
  int64_t batch = x[0], heads, length, size;
  const bool packed = x.size() == 3;
  if (packed) {
    ctx.expect(a.num_heads && *a.num_heads > 0, "attribute 'num_heads'",
               "a positive number for an input of rank 3");
    heads = *a.num_heads, length = x[1];
    ctx.expect(x[2] % heads == 0, "input 'X' dim 2", "a multiple of " + std::to_string(heads) + " heads",
               std::to_string(x[2]));
    size = x[2] / heads;
  } else {
    heads = x[1], length = x[2], size = x[3];
  }
  const int64_t turned = a.rotary_embedding_dim == 0 ? size : a.rotary_embedding_dim, half = turned / 2;
  ctx.expect(turned >= 0 && turned <= size && turned % 2 == 0, "rotary dimension",
             "an even number up to " + std::to_string(size), std::to_string(turned));
  const bool by_id = ctx.has_input(3);
  const Dims& cache = ctx.dims(1);
  if (by_id) {
    ctx.expect(ctx.dims(3) == Dims{batch, length}, "input 'position_ids'", to_string(Dims{batch, length}),
               to_string(ctx.dims(3)));
    ctx.expect(ctx.dtype(3) == DType::Int64, "input 'position_ids'", "int64", dtype_name(ctx.dtype(3)));
    ctx.expect(cache.size() == 2 && cache[1] == half, "input 'cos_cache'",
               "[positions, " + std::to_string(half) + "]", to_string(cache));
  } else {
    ctx.expect(cache == Dims{batch, length, half}, "input 'cos_cache'", to_string(Dims{batch, length, half}),
               to_string(cache));
  }
  ctx.expect(ctx.dims(2) == cache, "input 'sin_cache'", to_string(cache), to_string(ctx.dims(2)));
  ctx.expect(
      ctx.dtype(0) == DType::Float32 && ctx.dtype(1) == DType::Float32 && ctx.dtype(2) == DType::Float32,
      "inputs 'X', 'cos_cache', 'sin_cache'", "one float type");
  ctx.output(0, DType::Float32, x);
  const int64_t positions = cache[0];
  const bool interleaved = a.interleaved != 0;
  return [=](RunContext& run) {
    const float *in = run.in<float>(0), *cosines = run.in<float>(1), *sines = run.in<float>(2);
    const int64_t* ids = run.in<int64_t>(3);
    float* out = run.out<float>(0);
    for (int64_t i = 0; by_id && i < batch * length; ++i)
      if (ids[i] < 0 || ids[i] >= positions)
        run.fail("input 'position_ids' at " + std::to_string(i), "0 to " + std::to_string(positions - 1),
                 std::to_string(ids[i]));
    parallel_for(batch * length * heads, grain_for(static_cast<double>(size) + 5),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; ++row) {
                     // Rows lie as [batch, position, head] when heads are packed, else as [batch, head,
                     // position].
                     const int64_t b = row / (heads * length), rest = row % (heads * length);
                     const int64_t at = b * length + (packed ? rest / heads : rest % length);
                     const int64_t angle = (by_id ? ids[at] : at) * half;
                     const float *c = cosines + angle, *s = sines + angle, *from = in + row * size;
                     float* to = out + row * size;
                     const int64_t step = interleaved ? 2 : 1, apart = interleaved ? 1 : half;
                     for (int64_t i = 0; i < half; ++i) {
                       const float x1 = from[i * step], x2 = from[i * step + apart];
                       to[i * step] = c[i] * x1 - s[i] * x2;
                       to[i * step + apart] = s[i] * x1 + c[i] * x2;
                     }
                     std::copy(from + turned, from + size, to + turned);
                   }
                 });
  };
}

Prepared prepare(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_f32);
  return prepare_f32(ctx);
}

}  // namespace

void register_attention_rotary(KernelRegistry& registry) { registry.ref("RotaryEmbedding", prepare); }

}  // namespace sardonyx::cpu
