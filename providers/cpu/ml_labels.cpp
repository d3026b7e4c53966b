// LabelEncoder and CategoryMapper: tables from one value to another.
#include <bit>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "ops/ml.h"
#include "providers/cpu/ml.h"
#include "providers/cpu/support/dispatch.h"

namespace sardonyx::cpu {
namespace {

using LabelNumbers = Types<int64_t, float, int32_t, int16_t, double>;

// A number as a key: equal numbers have equal keys, and so have all NaN.
template <typename T>
uint64_t key_of(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(value)) return std::bit_cast<uint64_t>(std::numeric_limits<double>::quiet_NaN());
    return std::bit_cast<uint64_t>(static_cast<double>(value) + 0.0);
  } else {
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  }
}

Tensor ints_tensor(const std::vector<int64_t>& v) { return Tensor::of(v); }
Tensor floats_tensor(const std::vector<float>& v) { return Tensor::of(v); }
Tensor strings_tensor(const std::vector<std::string>& v) { return Tensor::of(v); }

// The one list that is set among the four forms.
Tensor one_of(PrepareContext& ctx, const char* what, const std::optional<std::vector<int64_t>>& ints,
              const std::optional<std::vector<float>>& floats,
              const std::optional<std::vector<std::string>>& strings, const std::optional<Tensor>& tensor) {
  const int set = (ints ? 1 : 0) + (floats ? 1 : 0) + (strings ? 1 : 0) + (tensor ? 1 : 0);
  ctx.expect(set == 1, std::string("attributes '") + what + "_*'", "exactly one", std::to_string(set));
  return ints      ? ints_tensor(*ints)
         : floats  ? floats_tensor(*floats)
         : strings ? strings_tensor(*strings)
                   : *tensor;
}

struct Table {
  std::unordered_map<std::string, size_t> strings;
  std::unordered_map<uint64_t, size_t> numbers;
};

// The position of each element of x among the keys, or the number of values for one that is not there.
template <typename F>
void look_up(const Table& table, const Tensor& x, size_t missing, F put) {
  const int64_t n = x.size();
  if (x.dtype() == DType::String) {
    for (int64_t i = 0; i < n; ++i) {
      const auto found = table.strings.find(x.data<std::string>()[i]);
      put(i, found == table.strings.end() ? missing : found->second);
    }
    return;
  }
  visit<LabelNumbers>(x.dtype(), [&]<typename T>() {
    for (int64_t i = 0; i < n; ++i) {
      const auto found = table.numbers.find(key_of(x.data<T>()[i]));
      put(i, found == table.numbers.end() ? missing : found->second);
    }
  });
}

Prepared prepare_label_encoder(PrepareContext& ctx) {
  const auto a = ctx.attributes<LabelEncoderAttributes>();
  const Tensor keys = one_of(ctx, "keys", a.keys_int64s, a.keys_floats, a.keys_strings, a.keys_tensor);
  const Tensor values =
      one_of(ctx, "values", a.values_int64s, a.values_floats, a.values_strings, a.values_tensor);
  ctx.expect(keys.size() == values.size(), "attributes 'values_*'",
             std::to_string(keys.size()) + " elements, as many as keys", std::to_string(values.size()));
  ctx.expect(keys.dtype() == ctx.dtype(0), "attributes 'keys_*'", dtype_name(ctx.dtype(0)),
             dtype_name(keys.dtype()));
  const DType to = values.dtype();
  ctx.expect(to == DType::String || visit<LabelNumbers>(to, []<typename T>() {}), "attributes 'values_*'",
             "string, int64, float, int32, int16 or double", dtype_name(to));
  Table table;
  if (keys.dtype() == DType::String) {
    for (int64_t i = 0; i < keys.size(); ++i)
      table.strings[keys.data<std::string>()[i]] = static_cast<size_t>(i);
  } else {
    const bool known = visit<LabelNumbers>(keys.dtype(), [&]<typename T>() {
      for (int64_t i = 0; i < keys.size(); ++i)
        table.numbers[key_of(keys.data<T>()[i])] = static_cast<size_t>(i);
    });
    ctx.expect(known, "attributes 'keys_*'", "string, int64, float, int32, int16 or double",
               dtype_name(keys.dtype()));
  }
  ctx.expect(!a.default_tensor || (a.default_tensor->dtype() == to && a.default_tensor->size() == 1),
             "attribute 'default_tensor'", std::string("one element of type ") + dtype_name(to));
  ctx.output(0, to, ctx.dims(0));
  Prepared prepared = decline("no such type");
  const auto take = [&]<typename T>(T fallback) {
    std::vector<T> list(values.data<T>(), values.data<T>() + values.size());
    list.push_back(a.default_tensor ? *a.default_tensor->data<T>() : fallback);
    prepared = [list = std::move(list), table](RunContext& run) {
      T* y = run.output(0).template mutable_data<T>();
      look_up(table, run.input(0), list.size() - 1, [&](int64_t i, size_t at) { y[i] = list[at]; });
    };
  };
  if (to == DType::String)
    take(a.default_string);
  else
    visit<LabelNumbers>(to, [&]<typename T>() {
      if constexpr (std::is_floating_point_v<T>)
        take(static_cast<T>(a.default_float));
      else
        take(static_cast<T>(a.default_int64));
    });
  return prepared;
}

Prepared prepare_category_mapper(PrepareContext& ctx) {
  const auto a = ctx.attributes<CategoryMapperAttributes>();
  const auto ints = a.cats_int64s.value_or(std::vector<int64_t>());
  const auto strings = a.cats_strings.value_or(std::vector<std::string>());
  ctx.expect(ints.size() == strings.size(), "attribute 'cats_strings'",
             std::to_string(ints.size()) + " elements, as many as 'cats_int64s'",
             std::to_string(strings.size()));
  const DType from = ctx.dtype(0);
  ctx.expect(from == DType::String || from == DType::Int64, "input 'X'", "string or int64", dtype_name(from));
  Table table;
  if (from == DType::String) {
    for (size_t i = 0; i < strings.size(); ++i) table.strings[strings[i]] = i;
    ctx.output(0, DType::Int64, ctx.dims(0));
    return [=, fallback = a.default_int64](RunContext& run) {
      int64_t* y = run.out<int64_t>(0);
      look_up(table, run.input(0), ints.size(),
              [&](int64_t i, size_t at) { y[i] = at < ints.size() ? ints[at] : fallback; });
    };
  }
  for (size_t i = 0; i < ints.size(); ++i) table.numbers[key_of(ints[i])] = i;
  ctx.output(0, DType::String, ctx.dims(0));
  return [=, fallback = a.default_string](RunContext& run) {
    auto* y = run.output(0).mutable_data<std::string>();
    look_up(table, run.input(0), strings.size(),
            [&](int64_t i, size_t at) { y[i] = at < strings.size() ? strings[at] : fallback; });
  };
}

}  // namespace

void register_ml_labels(KernelRegistry& registry) {
  registry.ref("LabelEncoder", prepare_label_encoder, kMlDomain);
  registry.ref("CategoryMapper", prepare_category_mapper, kMlDomain);
}

}  // namespace sardonyx::cpu
