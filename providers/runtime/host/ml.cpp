// The operators of domain ai.onnx.ml that take or make maps: CastMap, DictVectorizer, ZipMap.
#include "ops/ml.h"

#include <array>
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "providers/kernel.h"

namespace sardonyx::host {
namespace {

constexpr const char* kDomain = "ai.onnx.ml";

// The only element of a map's value.
const Tensor& element(RunContext& run, const Value& value) {
  if (!value.is_tensor() || value.tensor().size() != 1)
    run.fail("a value of the map", "a tensor of one element", value.kind_name());
  return value.tensor();
}

std::string text_of(float value) {
  std::array<char, 64> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return {buffer.data(), end};
}

// A map's value in the type that the graph declares; callers may feed numbers of another type.
template <typename T>
T element_as(RunContext& run, const Value& value) {
  const Tensor& from = element(run, value);
  if (from.dtype() == dtype_of<T>) return *from.data<T>();
  if constexpr (std::is_same_v<T, std::string>) {
    run.fail("a value of the map", "a string", dtype_name(from.dtype()));
  } else {
    if (is_integer(from.dtype())) return static_cast<T>(from.to_int64s()[0]);
    if (!is_float(from.dtype()))
      run.fail("a value of the map", dtype_name(dtype_of<T>), dtype_name(from.dtype()));
    const double number = from.to_doubles()[0];
    if constexpr (std::is_integral_v<T>) {
      if (!(std::abs(number) < 9.2e18))
        run.fail("a value of the map", "a number that fits int64", std::to_string(number));
    }
    return static_cast<T>(number);
  }
}

// A map's value cast to another type.
template <typename To>
To cast_element(RunContext& run, const Value& value) {
  const Tensor& from = element(run, value);
  if constexpr (std::is_same_v<To, std::string>) {
    if (from.dtype() != DType::String) return text_of(element_as<float>(run, value));
  } else {
    if (from.dtype() == DType::String) {
      const std::string& text = *from.data<std::string>();
      To number{};
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
      if (error != std::errc() || end != text.data() + text.size())
        run.fail("a value of the map", "a number", "'" + text + "'");
      return number;
    }
  }
  return element_as<To>(run, value);
}

template <typename To>
Prepared cast_map_to(bool sparse, int64_t width) {
  return [=](RunContext& run) {
    const auto* items = std::get_if<std::map<int64_t, Value>>(&run.value(0).map().items);
    if (!items) run.fail("input 'X'", "a map with int64 keys", "string keys");
    const int64_t count = sparse ? width : static_cast<int64_t>(items->size());
    Tensor& out = run.allocate(0, dtype_of<To>, {1, count});
    To* to = out.mutable_data<To>();
    if (sparse) std::fill(to, to + count, To{});
    int64_t next = 0;
    for (const auto& [key, value] : *items) {
      if (sparse && (key < 0 || key >= width))
        run.fail("a key of input 'X'", "0 to " + std::to_string(width - 1), std::to_string(key));
      to[sparse ? key : next++] = cast_element<To>(run, value);
    }
  };
}

Prepared prepare_cast_map(PrepareContext& ctx) {
  const auto a = ctx.attributes<CastMapAttributes>();
  ctx.expect(a.map_form == "DENSE" || a.map_form == "SPARSE", "attribute 'map_form'", "DENSE or SPARSE",
             "'" + a.map_form + "'");
  const bool sparse = a.map_form == "SPARSE";
  ctx.expect(!sparse || a.max_map >= 0, "attribute 'max_map'", "at least 0", std::to_string(a.max_map));
  if (a.cast_to == "TO_FLOAT") return cast_map_to<float>(sparse, a.max_map);
  if (a.cast_to == "TO_INT64") return cast_map_to<int64_t>(sparse, a.max_map);
  if (a.cast_to == "TO_STRING") return cast_map_to<std::string>(sparse, a.max_map);
  ctx.fail("attribute 'cast_to'", "TO_FLOAT, TO_INT64 or TO_STRING", "'" + a.cast_to + "'");
}

template <typename Key>
Prepared dict_vectorizer(const std::vector<Key>& vocabulary, DType dtype) {
  std::unordered_map<Key, size_t> position;
  for (size_t i = 0; i < vocabulary.size(); ++i) position[vocabulary[i]] = i;
  return [position, n = vocabulary.size(), dtype](RunContext& run) {
    const auto& map = run.value(0).map().items;
    const std::map<Key, Value> none;
    const auto* items = std::get_if<std::map<Key, Value>>(&map);
    // A map without entries may have been made with keys of either type.
    if (!items && std::visit([](const auto& m) { return m.empty(); }, map)) items = &none;
    if (!items) run.fail("keys of input 'X'", "the type of the vocabulary");
    Tensor& out = run.allocate(0, dtype, {static_cast<int64_t>(n)});
    const auto fill = [&]<typename T>() {
      T* to = out.mutable_data<T>();
      std::fill(to, to + n, T{});
      for (const auto& [key, value] : *items) {
        const auto found = position.find(key);
        if (found == position.end()) run.fail("a key of input 'X'", "a key of the vocabulary");
        to[found->second] = element_as<T>(run, value);
      }
    };
    switch (dtype) {
      case DType::Float32:
        return fill.template operator()<float>();
      case DType::Float64:
        return fill.template operator()<double>();
      case DType::Int64:
        return fill.template operator()<int64_t>();
      case DType::String:
        return fill.template operator()<std::string>();
      default:
        run.fail("values of input 'X'", "float, double, int64 or string", dtype_name(dtype));
    }
  };
}

Prepared prepare_dict_vectorizer(PrepareContext& ctx) {
  const auto a = ctx.attributes<DictVectorizerAttributes>();
  ctx.expect(a.int64_vocabulary.has_value() != a.string_vocabulary.has_value(), "vocabularies",
             "exactly one");
  const Type& type = ctx.graph().value(ctx.node().input(0)).type;
  ctx.expect(type.kind == Type::Kind::Map && type.element && type.element->is_tensor(), "input 'X'",
             "a map of tensors", type.to_string());
  const DType dtype = type.element->dtype;
  if (a.int64_vocabulary) return dict_vectorizer(*a.int64_vocabulary, dtype);
  return dict_vectorizer(*a.string_vocabulary, dtype);
}

// One map for each row.
template <typename Key>
Prepared zip_map(const std::vector<Key>& keys, int64_t rows) {
  return [keys, rows](RunContext& run) {
    const float* x = run.in<float>(0);
    Sequence out;
    for (int64_t r = 0; r < rows; ++r) {
      std::map<Key, Value> items;
      for (const Key& key : keys) items[key] = Tensor::scalar(*x++);
      out.items.emplace_back(Map{std::move(items)});
    }
    run.set_output(0, std::move(out));
  };
}

Prepared prepare_zip_map(PrepareContext& ctx) {
  const auto a = ctx.attributes<ZipMapAttributes>();
  ctx.expect(a.classlabels_int64s.has_value() != a.classlabels_strings.has_value(), "class labels",
             "exactly one list");
  const Dims& dims = ctx.dims(0);
  ctx.expect(ctx.dtype(0) == DType::Float32, "input 'X'", "float", dtype_name(ctx.dtype(0)));
  ctx.expect(dims.size() == 1 || dims.size() == 2, "input 'X'", "rank 1 or 2", to_string(dims));
  const auto columns = static_cast<int64_t>(a.classlabels_int64s ? a.classlabels_int64s->size()
                                                                 : a.classlabels_strings->size());
  ctx.expect(dims.back() == columns, "columns of input 'X'", std::to_string(columns) + ", one for each label",
             std::to_string(dims.back()));
  const int64_t rows = dims.size() == 1 ? 1 : dims[0];
  if (a.classlabels_int64s) return zip_map(*a.classlabels_int64s, rows);
  return zip_map(*a.classlabels_strings, rows);
}

}  // namespace

void register_ml(KernelRegistry& registry) {
  registry.ref("CastMap", prepare_cast_map, kDomain);
  registry.ref("DictVectorizer", prepare_dict_vectorizer, kDomain);
  registry.ref("ZipMap", prepare_zip_map, kDomain);
}

}  // namespace sardonyx::host
