// Attribute structs of the signal operators.
#pragma once

#include <cstdint>

namespace sardonyx {

struct DftAttributes {
  int64_t inverse = 0, onesided = 0;
  template <class V>
  void visit(V&& v) {
    v("inverse", inverse);
    v("onesided", onesided);
  }
};

struct StftAttributes {
  int64_t onesided = 1;
  template <class V>
  void visit(V&& v) {
    v("onesided", onesided);
  }
};

struct MelWeightMatrixAttributes {
  int64_t output_datatype = 1;
  template <class V>
  void visit(V&& v) {
    v("output_datatype", output_datatype);
  }
};

struct WindowAttributes {
  int64_t periodic = 1, output_datatype = 1;
  template <class V>
  void visit(V&& v) {
    v("periodic", periodic);
    v("output_datatype", output_datatype);
  }
};

}  // namespace sardonyx
