// Attributes of the elementwise operators.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sardonyx {

struct ModAttributes {
  int64_t fmod = 0;
  template <class V>
  void visit(V&& v) {
    v("fmod", fmod);
  }
};

struct BitShiftAttributes {
  std::optional<std::string> direction;  // required: "LEFT" or "RIGHT"
  template <class V>
  void visit(V&& v) {
    v("direction", direction);
  }
};

struct IsInfAttributes {
  int64_t detect_negative = 1, detect_positive = 1;
  template <class V>
  void visit(V&& v) {
    v("detect_negative", detect_negative);
    v("detect_positive", detect_positive);
  }
};

struct CastAttributes {
  std::string round_mode = "up";
  int64_t saturate = 1;
  std::optional<int64_t> to;  // required
  template <class V>
  void visit(V&& v) {
    v("round_mode", round_mode);
    v("saturate", saturate);
    v("to", to);
  }
};

struct CastLikeAttributes {
  std::string round_mode = "up";
  int64_t saturate = 1;
  template <class V>
  void visit(V&& v) {
    v("round_mode", round_mode);
    v("saturate", saturate);
  }
};

struct BitCastAttributes {
  std::optional<int64_t> to;  // required
  template <class V>
  void visit(V&& v) {
    v("to", to);
  }
};

// CumSum and CumProd.
struct CumulativeAttributes {
  int64_t exclusive = 0, reverse = 0;
  template <class V>
  void visit(V&& v) {
    v("exclusive", exclusive);
    v("reverse", reverse);
  }
};

// LinearScan.
struct LinearScanAttributes {
  int64_t reverse = 0;
  template <class V>
  void visit(V&& v) {
    v("reverse", reverse);
  }
};

}  // namespace sardonyx
