#include "values.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstring>

#include "sardonyx/small_types.h"

namespace nb = nanobind;

namespace sardonyx::python {

namespace {

Tensor tensor_from_array(nb::handle array, DType dtype) {
  auto view = nb::cast<nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>>(array);
  Dims dims;
  for (size_t i = 0; i < view.ndim(); ++i) dims.push_back(static_cast<int64_t>(view.shape(i)));
  const size_t bytes = view.nbytes();
  if (reinterpret_cast<uintptr_t>(view.data()) % element_size(dtype) != 0) {
    Tensor copy(dtype, dims);
    std::memcpy(copy.mutable_data(), view.data(), bytes);
    return copy;
  }
  // The array lives as long as the tensor; its last reference may be dropped on any thread.
  auto* keep = new nb::object(nb::borrow(array));
  auto buffer = std::make_shared<Buffer>(const_cast<void*>(view.data()), bytes, [keep](void*) {
    nb::gil_scoped_acquire gil;
    delete keep;
  });
  return Tensor(dtype, std::move(dims), std::move(buffer));
}

nb::object array_from_tensor(Tensor tensor) {
  // Memory that something else reads too (a feed, a constant) is not handed out.
  if (tensor.buffer().use_count() > 1) tensor = tensor.clone();
  std::vector<size_t> shape(tensor.dims().begin(), tensor.dims().end());
  auto* owner_tensor = new Tensor(tensor);
  nb::capsule owner(owner_tensor, [](void* p) noexcept { delete static_cast<Tensor*>(p); });
  nb::dlpack::dtype dtype = nb::dtype<uint8_t>();
  switch (tensor.dtype()) {
    case DType::Float32:
      dtype = nb::dtype<float>();
      break;
    case DType::Float64:
      dtype = nb::dtype<double>();
      break;
    case DType::Int64:
      dtype = nb::dtype<int64_t>();
      break;
    case DType::Int32:
      dtype = nb::dtype<int32_t>();
      break;
    case DType::Bool:
      dtype = nb::dtype<bool>();
      break;
    case DType::Complex64:
      dtype = nb::dtype<std::complex<float>>();
      break;
    case DType::Complex128:
      dtype = nb::dtype<std::complex<double>>();
      break;
    default:
      if (element_size(tensor.dtype()) == 2)
        dtype = nb::dtype<uint16_t>();
      else if (element_size(tensor.dtype()) == 4)
        dtype = nb::dtype<uint32_t>();
      else if (element_size(tensor.dtype()) == 8)
        dtype = nb::dtype<uint64_t>();
  }
  return nb::cast(nb::ndarray<nb::numpy>(owner_tensor->mutable_data(), shape.size(), shape.data(), owner,
                                         nullptr, dtype));
}

Tensor strings_from(nb::handle list, nb::handle dims_object) {
  Dims dims;
  for (nb::handle d : dims_object) dims.push_back(nb::cast<int64_t>(d));
  Tensor tensor(DType::String, dims);
  int64_t i = 0;
  for (nb::handle item : list) {
    if (i == tensor.size()) break;
    if (nb::isinstance<nb::bytes>(item)) {
      const auto bytes = nb::cast<nb::bytes>(item);
      tensor.mutable_data<std::string>()[i++] = std::string(bytes.c_str(), bytes.size());
    } else {
      tensor.mutable_data<std::string>()[i++] = nb::cast<std::string>(item);
    }
  }
  return tensor;
}

}  // namespace

Value value_from_python(nb::handle object) {
  if (object.is_none()) return Nothing{};
  if (nb::isinstance<nb::tuple>(object)) {
    const auto tuple = nb::borrow<nb::tuple>(object);
    if (tuple.size() == 3) return strings_from(tuple[1], tuple[2]);
    return tensor_from_array(tuple[0], static_cast<DType>(nb::cast<int>(tuple[1])));
  }
  if (nb::isinstance<nb::list>(object)) {
    Sequence sequence;
    for (nb::handle item : nb::borrow<nb::list>(object)) sequence.items.push_back(value_from_python(item));
    if (!sequence.items.empty() && sequence.items.front().is_tensor())
      sequence.element = sequence.items.front().tensor().dtype();
    return sequence;
  }
  if (nb::isinstance<nb::dict>(object)) {
    std::map<int64_t, Value> ints;
    std::map<std::string, Value> strings;
    bool string_keys = false;
    for (auto [key, value] : nb::borrow<nb::dict>(object)) {
      if (nb::isinstance<nb::str>(key)) {
        string_keys = true;
        strings[nb::cast<std::string>(key)] = value_from_python(value);
      } else {
        ints[nb::cast<int64_t>(key)] = value_from_python(value);
      }
    }
    Map map;
    if (string_keys)
      map.items = std::move(strings);
    else
      map.items = std::move(ints);
    return map;
  }
  throw InputError("value", "an array, list, dict or None", nb::cast<std::string>(nb::str(object.type())));
}

nb::object value_to_python(Value value) {
  if (value.is_tensor()) {
    Tensor& tensor = value.tensor();
    const DType dtype = tensor.dtype();
    if (dtype == DType::String) {
      nb::list items, dims;
      for (int64_t i = 0; i < tensor.size(); ++i) {
        const std::string& s = tensor.data<std::string>()[i];
        items.append(nb::bytes(s.data(), s.size()));
      }
      for (const int64_t d : tensor.dims()) dims.append(d);
      return nb::make_tuple("strings", items, dims);
    }
    return nb::make_tuple(array_from_tensor(std::move(tensor)), static_cast<int>(dtype));
  }
  if (value.is_sequence()) {
    nb::list list;
    for (const Value& item : value.sequence().items) list.append(value_to_python(item));
    return list;
  }
  if (value.is_map()) {
    nb::dict dict;
    std::visit(
        [&](const auto& items) {
          for (const auto& [key, item] : items) dict[nb::cast(key)] = value_to_python(item);
        },
        value.map().items);
    return dict;
  }
  if (value.is_sparse()) throw UnsupportedError("sparse tensor as an output of run()");
  return nb::none();
}

Feeds feeds_from_python(const nb::dict& feeds) {
  Feeds result;
  for (auto [name, value] : feeds) result[nb::cast<std::string>(name)] = value_from_python(value);
  return result;
}

nb::list values_to_python(std::vector<Value> values) {
  nb::list list;
  for (Value& value : values) list.append(value_to_python(std::move(value)));
  return list;
}

}  // namespace sardonyx::python
