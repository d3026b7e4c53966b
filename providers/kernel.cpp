#include "providers/kernel.h"

#include <algorithm>

#include "graph/shape.h"

namespace sardonyx {

namespace {
std::string input_name(size_t i) { return "input " + std::to_string(i); }
}  // namespace

Dims memory_dims(const Dims& dims, Layout layout) {
  if (layout == Layout::Plain) return dims;
  Dims memory = {dims[0]};
  memory.insert(memory.end(), dims.begin() + 2, dims.end());
  memory.push_back(dims[1]);
  return memory;
}

Dims logical_dims(const Dims& memory, Layout layout) {
  if (layout == Layout::Plain) return memory;
  Dims dims = {memory.front(), memory.back()};
  dims.insert(dims.end(), memory.begin() + 1, memory.end() - 1);
  return dims;
}

size_t memory_axis(size_t axis, size_t rank, Layout layout) {
  if (layout == Layout::Plain || axis == 0) return axis;
  return axis == 1 ? rank - 1 : axis - 1;
}

bool layouts_agree(const Dims& dims) {
  if (dims.size() < 3) return true;
  if (dims[1] == 1) return true;
  return std::all_of(dims.begin() + 2, dims.end(), [](int64_t d) { return d == 1; });
}

const TensorDesc& PrepareContext::input(size_t i) const {
  if (!is_tensor(i)) fail(input_name(i), "a tensor", has_input(i) ? "another kind of value" : "none");
  return inputs_[i].desc;
}

std::vector<int64_t> PrepareContext::host_ints(size_t i) const {
  const Tensor* tensor = host(i);
  if (!tensor)
    fail(input_name(i), "a value known before the node runs", has_input(i) ? "an unknown one" : "none");
  return tensor->to_int64s();
}

void PrepareContext::output(size_t i, DType dtype, Dims dims) {
  if (!wants(i) && (i != 0 || outputs_.empty())) return;
  element_count(dims);
  outputs_[i] = {OutputKind::Static, {dtype, std::move(dims)}, -1};
}

void PrepareContext::view(size_t i, size_t in, Dims dims, int64_t first) {
  if (!wants(i)) return;
  const TensorDesc& desc = input(in);
  const int64_t size = element_count(dims);
  if (!may_view(i) ? first != 0 || size != desc.size() : first < 0 || first > desc.size() - size)
    fail("shape " + to_string(dims), std::to_string(desc.size()) + " elements", std::to_string(size));
  outputs_[i] = {OutputKind::Alias, {desc.dtype, std::move(dims)}, static_cast<int>(in), first};
}

void PrepareContext::may_share(size_t i, size_t in) {
  if (wants(i) && outputs_[i].kind == OutputKind::Static && is_tensor(in))
    outputs_[i].shares = static_cast<int>(in);
}

std::shared_ptr<Body> PrepareContext::body(const std::string& attribute) const {
  const auto it = bodies_.find(attribute);
  if (it == bodies_.end()) fail("attribute '" + attribute + "'", "a graph", "none");
  return it->second;
}

void PrepareContext::fail(const std::string& what, const std::string& expected,
                          const std::string& got) const {
  throw InputError(what, expected, got);
}

Tensor& RunContext::allocate(size_t i, DType dtype, Dims dims) {
  if (i >= outputs_.size()) throw InputError("output " + std::to_string(i), "one that the node has", "none");
  if (dtype == DType::String || !allocate_) {
    outputs_[i] = Tensor(dtype, std::move(dims));
  } else {
    const TensorDesc desc{dtype, std::move(dims)};
    outputs_[i] = Tensor(dtype, desc.dims, allocate_(run_, desc.bytes()));
  }
  return outputs_[i].tensor();
}

void KernelRegistry::add(const std::string& op, const std::string& kernel, int order, PrepareKernel prepare,
                         const std::string& domain, LayoutRule layouts) {
  auto& list = kernels_[{domain, op}];
  const auto place = std::upper_bound(list.begin(), list.end(), order,
                                      [](int o, const KernelEntry& e) { return o < e.order; });
  list.insert(place, {kernel, order, std::move(prepare), layouts});
}

const std::vector<KernelEntry>& KernelRegistry::find(const std::string& domain, const std::string& op) const {
  static const std::vector<KernelEntry> none;
  const auto it = kernels_.find({domain, op});
  return it == kernels_.end() ? none : it->second;
}

}  // namespace sardonyx
