// Cast and BitCast.
#include <cstring>
#include <string>

#include "ops/elementwise.h"
#include "providers/cpu/support/cast.h"
#include "providers/cpu/support/elementwise.h"

namespace sardonyx::cpu {

namespace {

DType target_dtype(const PrepareContext& ctx, const std::optional<int64_t>& to) {
  ctx.expect(to && *to == static_cast<int32_t>(*to) && is_valid_dtype(static_cast<int32_t>(*to)) && *to != 0,
             "attribute 'to'", "an element type", to ? std::to_string(*to) : "none");
  return static_cast<DType>(*to);
}

E8M0Rounding rounding_of(const PrepareContext& ctx, const std::string& mode) {
  if (mode == "up") return E8M0Rounding::Up;
  if (mode == "down") return E8M0Rounding::Down;
  ctx.expect(mode == "nearest", "attribute 'round_mode'", "up, down or nearest", mode);
  return E8M0Rounding::Nearest;
}

Prepared prepare_cast(PrepareContext& ctx) {
  const auto a = ctx.attributes<CastAttributes>();
  const DType from = ctx.dtype(0), to = target_dtype(ctx, a.to);
  if (is_complex(from) || is_complex(to)) return decline("complex numbers are not cast");
  const CastRules rules{a.saturate != 0, rounding_of(ctx, a.round_mode)};
  const int64_t n = ctx.input(0).size();
  if (from == to) {
    ctx.alias(0, 0, ctx.dims(0));
    return [](RunContext&) {};
  }
  declare_elementwise(ctx, to, ctx.dims(0));
  if (to == DType::String) {
    return [from, n](RunContext& run) {
      const char* x = run.in<char>(0);
      std::string* y = run.out<std::string>(0);
      const size_t size = element_size(from);
      for (int64_t i = 0; i < n; ++i) y[i] = number_to_text(from, x + static_cast<size_t>(i) * size);
    };
  }
  if (from == DType::String) {
    return [to, n, rules](RunContext& run) {
      const std::string* x = run.in<std::string>(0);
      char* y = run.out<char>(0);
      const size_t size = element_size(to);
      for (int64_t i = 0; i < n; ++i) text_to_number(x[i], to, y + static_cast<size_t>(i) * size, rules);
    };
  }
  return [from, to, n, rules](RunContext& run) {
    cast_numbers(from, run.input(0).data(), to, run.output(0).mutable_data(), n, rules);
  };
}

// Types narrower than a byte lie one a byte: only the integers' sign extension and the unused bits change.
void recode_byte(DType to, const uint8_t* x, uint8_t* y, int64_t n) {
  const int bits = element_bits(to);
  const uint8_t mask = static_cast<uint8_t>((1 << bits) - 1), sign = static_cast<uint8_t>(1 << (bits - 1));
  const uint8_t extension = is_signed_integer(to) ? static_cast<uint8_t>(~mask) : 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint8_t low = x[i] & mask;
    y[i] = low & sign ? low | extension : low;
  }
}

Prepared prepare_bit_cast(PrepareContext& ctx) {
  const DType from = ctx.dtype(0), to = target_dtype(ctx, ctx.attributes<BitCastAttributes>().to);
  ctx.expect(from != DType::String && to != DType::String, "element type", "not string", "string");
  ctx.expect(element_bits(from) == element_bits(to), "bits of attribute 'to'",
             std::to_string(element_bits(from)), std::to_string(element_bits(to)));
  if (from == to) {
    ctx.alias(0, 0, ctx.dims(0));
    return [](RunContext&) {};
  }
  const int64_t n = ctx.input(0).size();
  declare_elementwise(ctx, to, ctx.dims(0));
  return [to, n](RunContext& run) {
    const uint8_t* x = run.in<uint8_t>(0);
    uint8_t* y = run.out<uint8_t>(0);
    if (element_bits(to) < 8) return recode_byte(to, x, y, n);
    if (to == DType::Bool) {
      for (int64_t i = 0; i < n; ++i) y[i] = x[i] != 0;
      return;
    }
    if (x != y) std::memcpy(y, x, run.output(0).bytes());
  };
}

}  // namespace

void register_elementwise_cast(KernelRegistry& r) {
  r.ref("Cast", prepare_cast);
  r.ref("BitCast", prepare_bit_cast);
}

}  // namespace sardonyx::cpu
