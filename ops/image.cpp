// ImageDecoder: its output shape is in the encoded bytes.
#include "ops/image.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_image(OperatorRegistry& registry) {
  registry.op("ImageDecoder")
      .attributes<ImageDecoderAttributes>()
      .non_differentiable("it decodes the bytes of a file");
}

}  // namespace sardonyx
