// What the convolutions on oneDNN share, forwards and backwards.
#pragma once

#include <vector>

#include "providers/cpu/convolution.h"
#include "providers/cpu/support/onednn.h"

namespace sardonyx::cpu {

using Memory = dnnl::memory;

// How a primitive sees its images: as ONNX lays them out, in blocks of 16 channels, or as oneDNN likes best.
// Last: channels last, as the tensors of the plan are.
enum class ImageLayout { Plain, Blocked, Any, Last };

// The layouts to try, with the reorders of both images counted in.
std::vector<ImageLayout> image_layouts(const ConvShape& s);

struct ConvTypes {
  DType x, weights, bias, y;
};

struct ConvDescs {
  Memory::desc x, weights, bias, y;  // as in memory
  Memory::desc x_wanted, weights_wanted, y_wanted;
  Memory::dims strides, dilates, pad_begin, pad_end;
};

ConvDescs describe(const ConvShape& s, const ConvTypes& types, ImageLayout layout);

// Spatial dimensions of one element that the window does not extend, but for one.
std::vector<size_t> idle_dimensions(const Window& w);
ConvShape without_dimensions(ConvShape s, const std::vector<size_t>& dropped);

// Of input 0 and the weights in input 1, in the first of the layouts for which oneDNN has a kernel.
Prepared prepare_onednn_convolution(PrepareContext& ctx, const ConvShape& s,
                                    const std::vector<ImageLayout>& layouts);

}  // namespace sardonyx::cpu
