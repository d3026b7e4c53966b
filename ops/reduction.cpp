// Reductions: the axes are an operand whose values decide the output shape.
#include "ops/reduction.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_reduction(OperatorRegistry& registry) {
  for (const char* name : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
                           "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"})
    registry.op(name).attributes<ReduceAttributes>().shape_operands({1});
}

}  // namespace sardonyx
