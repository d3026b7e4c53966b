// What kernels on oneDNN share: the engine, descriptors, and a primitive with its user scratchpad.
#pragma once

#include <dnnl.hpp>

#include <string>
#include <unordered_map>
#include <vector>

#include "providers/kernel.h"

namespace sardonyx::cpu {

// The process's one CPU engine.
const dnnl::engine& onednn_engine();
// The calling thread's stream on it.
dnnl::stream& onednn_stream();

// f32 bf16 f16 s32 s8 u8; undef for what oneDNN has no type for.
dnnl::memory::data_type onednn_type(DType dtype);
// Row-major ("abcd..."); rank 0 becomes [1]. oneDNN takes at most 12 dimensions.
dnnl::memory::desc onednn_dense(DType dtype, const Dims& dims);
dnnl::memory::desc onednn_strided(DType dtype, const Dims& dims, const Dims& strides);

// Whether products of bf16 run in instructions of their own, and are not emulated.
bool onednn_multiplies_bfloat16();

// The attribute every primitive here starts from: scratchpad_mode::user.
dnnl::primitive_attr onednn_attributes();

// True when the implementation is one of oneDNN's unoptimized ones, to be declined.
template <typename PrimitiveDesc>
bool onednn_is_ref(const PrimitiveDesc& desc) {
  const std::string name = desc.impl_info_str();
  return name.rfind("ref", 0) == 0 || name.rfind("simple:ref", 0) == 0;
}

// Runs `primitive` on the calling thread's stream; failures become ProviderError.
void onednn_execute(const dnnl::primitive& primitive, const std::unordered_map<int, dnnl::memory>& arguments);

// The arguments of a primitive that a context runs again and again: memory objects are made once, and follow
// their data. Every run adds the same arguments in the same order.
class OneDnnArguments {
 public:
  void begin() { next_ = 0; }
  void add(int argument, const dnnl::memory::desc& desc, const void* data);
  // On the calling thread's stream; failures become ProviderError.
  void execute(const dnnl::primitive& primitive);
  // Another primitive, that is made for the same arguments but for its scratch memory, which it takes anew.
  void execute_instead(const dnnl::primitive& primitive, const dnnl::memory::desc& scratchpad) const;

 private:
  std::vector<dnnl::memory> memories_;
  std::vector<const void*> data_;
  std::vector<dnnl_exec_arg_t> arguments_;
  size_t next_ = 0;
};

// While it lives, what this thread makes and runs of oneDNN stays on this thread. A primitive made under it
// must also run under it.
class OneDnnSerial {
 public:
  explicit OneDnnSerial(bool serial);
  ~OneDnnSerial();
  OneDnnSerial(const OneDnnSerial&) = delete;
  OneDnnSerial& operator=(const OneDnnSerial&) = delete;

 private:
  int threads_ = 0;  // to be set again; 0 when nothing was changed
};

// Whether one of the threads that run primitives has met an invalid operation (infinity times 0, a comparison
// with NaN) since this was last asked. Outside of primitives.
bool onednn_met_invalid();

// Whether work of so many operations on so many bytes is too little to wake other threads for.
inline bool onednn_small(double operations, double bytes) { return operations / 100 + bytes / 20 < 40000; }

// A memory object over foreign bytes.
inline dnnl::memory onednn_memory(const dnnl::memory::desc& desc, const void* data) {
  return dnnl::memory(desc, onednn_engine(), const_cast<void*>(data));
}

}  // namespace sardonyx::cpu
