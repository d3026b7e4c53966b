#include "providers/cpu/support/onednn.h"

#include <omp.h>

#include <cfenv>

namespace sardonyx::cpu {

const dnnl::engine& onednn_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& onednn_stream() {
  thread_local dnnl::stream stream(onednn_engine());
  return stream;
}

dnnl::memory::data_type onednn_type(DType dtype) {
  using Type = dnnl::memory::data_type;
  switch (dtype) {
    case DType::Float32:
      return Type::f32;
    case DType::BFloat16:
      return Type::bf16;
    case DType::Float16:
      return Type::f16;
    case DType::Int32:
      return Type::s32;
    case DType::Int8:
      return Type::s8;
    case DType::UInt8:
      return Type::u8;
    default:
      return Type::undef;
  }
}

dnnl::memory::desc onednn_dense(DType dtype, const Dims& dims) {
  element_count(dims);  // strides of more elements than there can be would overflow
  Dims strides(dims.size());
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(dims[i], 1);
  }
  return onednn_strided(dtype, dims, strides);
}

dnnl::memory::desc onednn_strided(DType dtype, const Dims& dims, const Dims& strides) {
  if (dims.empty()) return dnnl::memory::desc({1}, onednn_type(dtype), dnnl::memory::dims{1});
  return dnnl::memory::desc(dims, onednn_type(dtype), strides);
}

// The instruction sets are ordered, but for the AVX2 with bf16, which only converts it.
bool onednn_multiplies_bfloat16() { return dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core_bf16; }

dnnl::primitive_attr onednn_attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

void onednn_execute(const dnnl::primitive& primitive,
                    const std::unordered_map<int, dnnl::memory>& arguments) {
  try {
    primitive.execute(onednn_stream(), arguments);
    onednn_stream().wait();
  } catch (const dnnl::error& e) {
    throw ProviderError(std::string("oneDNN: ") + e.message);
  }
}

void OneDnnArguments::add(int argument, const dnnl::memory::desc& desc, const void* data) {
  if (next_ == memories_.size()) {
    memories_.push_back(onednn_memory(desc, data));
    data_.push_back(data);
    arguments_.push_back({argument, memories_.back().get()});
  } else if (data_[next_] != data) {
    memories_[next_].set_data_handle(const_cast<void*>(data));
    data_[next_] = data;
  }
  ++next_;
}

void OneDnnArguments::execute(const dnnl::primitive& primitive) {
  try {
    dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive.get(), onednn_stream().get(),
                                                   static_cast<int>(arguments_.size()), arguments_.data()),
                            "could not execute a primitive");
    onednn_stream().wait();
  } catch (const dnnl::error& e) {
    throw ProviderError(std::string("oneDNN: ") + e.message);
  }
}

void OneDnnArguments::execute_instead(const dnnl::primitive& primitive,
                                      const dnnl::memory::desc& scratchpad) const {
  const auto scratch = Buffer::host(scratchpad.get_size());
  std::unordered_map<int, dnnl::memory> arguments = {
      {DNNL_ARG_SCRATCHPAD, onednn_memory(scratchpad, scratch->data())}};
  for (size_t i = 0; i < arguments_.size(); ++i) arguments.emplace(arguments_[i].arg, memories_[i]);
  onednn_execute(primitive, arguments);
}

bool onednn_met_invalid() {
  const auto take_flag = [] {
    const bool met = std::fetestexcept(FE_INVALID) != 0;
    if (met) std::feclearexcept(FE_INVALID);
    return met;
  };
  if (omp_in_parallel() || omp_get_max_threads() == 1) return take_flag();
  bool met = false;
#pragma omp parallel reduction(|| : met)
  met = take_flag() || met;
  return met;
}

OneDnnSerial::OneDnnSerial(bool serial) {
  if (!serial || omp_get_max_threads() == 1) return;
  threads_ = omp_get_max_threads();
  omp_set_num_threads(1);
}

OneDnnSerial::~OneDnnSerial() {
  if (threads_ != 0) omp_set_num_threads(threads_);
}

}  // namespace sardonyx::cpu
