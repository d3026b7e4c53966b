#include "ops/movement.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_movement(OperatorRegistry& registry) {
  registry.op("Reshape").attributes<ReshapeAttributes>().shape_operands({1});
  registry.op("Flatten").attributes<FlattenAttributes>();
  registry.op("Squeeze").shape_operands({1});
  registry.op("Unsqueeze").shape_operands({1});
  registry.op("Transpose").attributes<TransposeAttributes>();
  registry.op("Concat").attributes<ConcatAttributes>();
  registry.op("Split").attributes<SplitAttributes>().shape_operands({1});
  registry.op("Slice").shape_operands({1, 2, 3, 4});
  registry.op("Expand").shape_operands({1});
  registry.op("Tile").shape_operands({1});
  registry.op("DepthToSpace").attributes<BlockAttributes>();
  registry.op("SpaceToDepth").attributes<BlockAttributes>();
  registry.op("Shape").attributes<ShapeAttributes>();
  registry.op("ConstantOfShape").attributes<ConstantOfShapeAttributes>().shape_operands({0});
  registry.op("Range").attributes<RangeAttributes>().shape_operands({0, 1, 2});
  registry.op("EyeLike").attributes<EyeLikeAttributes>();
  registry.op("Trilu").attributes<TriluAttributes>();
  registry.op("CenterCropPad").attributes<CenterCropPadAttributes>().shape_operands({1});
  registry.op("ReverseSequence").attributes<ReverseSequenceAttributes>();
  registry.op("Compress").attributes<CompressAttributes>();
  for (const char* name : {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split",
                           "Slice", "Expand", "Tile", "DepthToSpace", "SpaceToDepth"})
    registry.op(name).narrows(Narrow::Between);
}

}  // namespace sardonyx
