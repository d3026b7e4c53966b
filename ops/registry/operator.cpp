#include "ops/registry/operator.h"

#include "ops/registry/schema.h"

namespace sardonyx {

void register_all_operators(OperatorRegistry& registry);

int Compose::need_rank(size_t i) const {
  const int r = rank(i);
  if (r < 0) throw ModelError("input " + std::to_string(i), "a known rank", "an unknown one");
  return r;
}

const Tensor* Compose::constant(size_t i) const {
  if (!has(i)) return nullptr;
  const ValueInfo& info = builder_.graph().value(in(i));
  return info.kind == ValueKind::Constant && info.constant.is_tensor() ? &info.constant.tensor() : nullptr;
}

ValueId Compose::scalar(DType dtype, double value) {
  Tensor tensor(dtype, {});
  void* data = tensor.mutable_data();
  switch (dtype) {
    case DType::Float32:
      *static_cast<float*>(data) = static_cast<float>(value);
      break;
    case DType::Float64:
      *static_cast<double*>(data) = value;
      break;
    case DType::Float16:
      *static_cast<Half*>(data) = Half(value);
      break;
    case DType::BFloat16:
      *static_cast<BFloat16*>(data) = BFloat16(value);
      break;
    case DType::Int64:
      *static_cast<int64_t*>(data) = static_cast<int64_t>(value);
      break;
    case DType::Int32:
      *static_cast<int32_t*>(data) = static_cast<int32_t>(value);
      break;
    case DType::Int16:
      *static_cast<int16_t*>(data) = static_cast<int16_t>(value);
      break;
    case DType::Int8:
      *static_cast<int8_t*>(data) = static_cast<int8_t>(value);
      break;
    case DType::UInt64:
      *static_cast<uint64_t*>(data) = static_cast<uint64_t>(value);
      break;
    case DType::UInt32:
      *static_cast<uint32_t*>(data) = static_cast<uint32_t>(value);
      break;
    case DType::UInt16:
      *static_cast<uint16_t*>(data) = static_cast<uint16_t>(value);
      break;
    case DType::UInt8:
      *static_cast<uint8_t*>(data) = static_cast<uint8_t>(value);
      break;
    case DType::Bool:
      *static_cast<bool*>(data) = value != 0;
      break;
    default:
      if (!is_float(dtype)) throw UnsupportedError(std::string("scalar of type ") + dtype_name(dtype));
      *static_cast<uint8_t*>(data) = float_to_small(dtype, static_cast<float>(value));
  }
  return builder_.constant(std::move(tensor));
}

ValueId Compose::ints(std::vector<int64_t> values) { return builder_.constant(Tensor::of(values)); }

Operator& Operator::decomposes_by_schema() {
  decompose = [](Compose& c) { return expand_schema_function(c.builder(), c.node()); };
  return *this;
}

Operator& OperatorRegistry::op(const std::string& name, const std::string& domain) {
  Operator& entry = operators_[{domain, name}];
  entry.domain = domain;
  entry.name = name;
  return entry;
}

const Operator* OperatorRegistry::find(const std::string& domain, const std::string& name) const {
  const auto it = operators_.find({domain, name});
  return it == operators_.end() ? nullptr : &it->second;
}

const OperatorRegistry& OperatorRegistry::instance() {
  static const OperatorRegistry registry = [] {
    OperatorRegistry r;
    register_all_operators(r);
    return r;
  }();
  return registry;
}

}  // namespace sardonyx
