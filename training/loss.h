// Losses under torch's names, as compositions of operators.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ops/registry/operator.h"
#include "training/arguments.h"

namespace sardonyx {

struct LossPort {
  std::string name;
  bool is_target = false;  // fed with the data; the others are outputs of the model, in this order
  // The usual target: of the first port's type, int64 without its axis 1 (Classes), or for a first port
  // [steps, batch, classes] int64 [batch, any] (Sequences) or [batch] (Lengths).
  enum class Usual { LikeInput, Classes, Sequences, Lengths } usual = Usual::LikeInput;
};

// What a loss is made with: its ports as the inputs of a node (types known), and its arguments.
struct LossBuild {
  Compose& c;
  ArgumentReader& arguments;
  std::string reduction;  // "none", "mean", "sum", or another word of the loss's own
  DType dtype() const { return c.dtype(0); }
  ValueId scalar(double value) const { return c.scalar(dtype(), value); }
  // A tensor argument as a constant of the input's dtype; kNone where it is left out.
  ValueId constant(const std::string& name) const;
  // The elements' losses by the reduction.
  ValueId reduced(ValueId loss) const;
};

struct Loss {
  std::string name;
  std::vector<LossPort> ports;
  std::function<ValueId(LossBuild&)> build;
  std::vector<std::string> reductions = {"none", "mean", "sum"};
};

// Filled from every training/loss/<stem>.cpp.
const std::vector<Loss>& all_losses();
const Loss& find_loss(const std::string& name);

// The types of a loss's targets where nothing else is said, for a first port of this type.
std::vector<Type> usual_targets(const Loss& loss, const Type& input);

// Appends a loss and returns its value: a scalar, but for reduction "none". The ids are parallel to the
// ports. Arguments have torch's names; `size_average` and `reduce` mean what they meant. InputError for
// arguments, dtypes or ranks that do not fit.
ValueId append_loss(GraphBuilder& builder, const Loss& loss, const Arguments& arguments,
                    const std::vector<ValueId>& ports);

}  // namespace sardonyx
