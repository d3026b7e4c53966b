// libFuzzer's entry: a model file in, nothing but typed errors out.
#include "tests/fuzz/run_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sardonyx::test::run_model(data, size);
  return 0;
}
