// Attribute structs of the matrix products.
#pragma once

#include <optional>
#include <string>

#include "graph/attributes.h"

namespace sardonyx {

struct FlopPorts;
// Operations of a product of matrices whose left operand is input 0, with all that lie in front of it.
std::optional<double> matmul_flops(const FlopPorts& ports);

struct GemmAttributes {
  float alpha = 1, beta = 1;
  int64_t transA = 0, transB = 0;
  template <class V>
  void visit(V&& v) {
    v("alpha", alpha);
    v("beta", beta);
    v("transA", transA);
    v("transB", transB);
  }
};

// MatMulTransposed: MatMul of operands whose last two dimensions change places first.
struct MatMulTransposedAttributes {
  int64_t transA = 0, transB = 0;
  template <class V>
  void visit(V&& v) {
    v("transA", transA);
    v("transB", transB);
  }
};

struct EinsumAttributes {
  std::optional<std::string> equation;  // required
  template <class V>
  void visit(V&& v) {
    v("equation", equation);
  }
};

}  // namespace sardonyx
