// ImageDecoder: its output shape is in the encoded bytes.
#include "ops/image.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_image(OperatorRegistry& registry) {
  registry.op("ImageDecoder").attributes<ImageDecoderAttributes>();
}

}  // namespace sardonyx
