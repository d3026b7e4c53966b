// ImageDecoder: decodes to RGB and arranges the channels.
#include "ops/image.h"

#include <algorithm>

#include "providers/cpu/support/image.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

Prepared prepare(PrepareContext& ctx) {
  const std::string format = ctx.attributes<ImageDecoderAttributes>().pixel_format;
  ctx.expect(format == "RGB" || format == "BGR" || format == "Grayscale", "attribute 'pixel_format'",
             "RGB, BGR or Grayscale", "'" + format + "'");
  ctx.expect(ctx.dtype(0) == DType::UInt8, "input 'encoded_stream'", "uint8", dtype_name(ctx.dtype(0)));
  ctx.expect(ctx.rank(0) == 1, "input 'encoded_stream'", "rank 1", to_string(ctx.dims(0)));
  return [format](RunContext& run) {
    const Tensor& encoded = run.input(0);
    const Pixels image = decode_image({encoded.data<uint8_t>(), static_cast<size_t>(encoded.size())});
    const bool gray = format == "Grayscale";
    Tensor& out = run.allocate(0, DType::UInt8, {image.height, image.width, gray ? 1 : 3});
    auto* to = out.mutable_data<uint8_t>();
    const int64_t n = image.width * image.height;
    if (format == "RGB") {
      std::copy(image.rgb.begin(), image.rgb.end(), to);
      return;
    }
    for (int64_t i = 0; i < n; ++i) {
      const uint8_t* p = image.rgb.data() + i * 3;
      if (gray) {
        // Luma of ITU-R BT.601 in 16-bit fixed point.
        to[i] = static_cast<uint8_t>((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
      } else {
        for (int c = 0; c < 3; ++c) to[i * 3 + c] = p[2 - c];
      }
    }
  };
}

}  // namespace

void register_image(KernelRegistry& registry) { registry.ref("ImageDecoder", prepare); }

}  // namespace sardonyx::cpu
