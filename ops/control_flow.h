// Attributes of the operators that run bodies.
#pragma once

#include <optional>
#include <vector>

#include "graph/attributes.h"

namespace sardonyx {

struct IfAttributes {
  std::optional<GraphPtr> else_branch, then_branch;
  template <class V>
  void visit(V&& v) {
    v("else_branch", else_branch);
    v("then_branch", then_branch);
  }
};
// Loop and SequenceMap.
struct BodyAttributes {
  std::optional<GraphPtr> body;
  template <class V>
  void visit(V&& v) {
    v("body", body);
  }
};
struct ScanAttributes {
  std::optional<GraphPtr> body;
  std::optional<int64_t> num_scan_inputs;
  std::optional<std::vector<int64_t>> scan_input_axes, scan_input_directions, scan_output_axes,
      scan_output_directions;
  template <class V>
  void visit(V&& v) {
    v("body", body);
    v("num_scan_inputs", num_scan_inputs);
    v("scan_input_axes", scan_input_axes);
    v("scan_input_directions", scan_input_directions);
    v("scan_output_axes", scan_output_axes);
    v("scan_output_directions", scan_output_directions);
  }
};

}  // namespace sardonyx
