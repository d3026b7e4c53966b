// Values and graphs through their serialized form and back, at the level of the importer itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "graph/builder.h"
#include "onnx_import/export.h"
#include "onnx_import/import.h"

namespace sardonyx {
namespace {

Value again(const Value& value, ProtoKind kind) {
  const std::string bytes = export_value(value, "name");
  return import_value(bytes.data(), bytes.size(), kind);
}

TEST(Values, TensorsOfEveryElementType) {
  for (int32_t number = 1; number < kDTypeCount; ++number) {
    const auto dtype = static_cast<DType>(number);
    Tensor tensor(dtype, {3, 5});
    if (dtype == DType::String) {
      for (int i = 0; i < 15; ++i)
        tensor.mutable_data<std::string>()[i] = std::string(static_cast<size_t>(i), 'x');
      const Tensor back = again(tensor, ProtoKind::Tensor).tensor();
      for (int i = 0; i < 15; ++i) EXPECT_EQ(back.data<std::string>()[i], tensor.data<std::string>()[i]);
      continue;
    }
    auto* bytes = tensor.mutable_data<uint8_t>();
    for (size_t i = 0; i < tensor.bytes(); ++i) bytes[i] = static_cast<uint8_t>(i % 2);
    const Tensor back = again(tensor, ProtoKind::Tensor).tensor();
    EXPECT_EQ(back.dtype(), dtype);
    EXPECT_EQ(back.dims(), tensor.dims());
    EXPECT_EQ(std::memcmp(back.data(), tensor.data(), tensor.bytes()), 0) << dtype_name(dtype);
  }
}

TEST(Values, NegativeNarrowIntegers) {
  const std::vector<Int4> fours{Int4(-8), Int4(7), Int4(-1)};
  const Tensor back = again(Tensor::of(fours), ProtoKind::Tensor).tensor();
  EXPECT_EQ(back.to_int64s(), (std::vector<int64_t>{-8, 7, -1}));
  const std::vector<Int2> twos{Int2(-2), Int2(1), Int2(-1), Int2(0), Int2(-2)};
  EXPECT_EQ(again(Tensor::of(twos), ProtoKind::Tensor).tensor().to_int64s(),
            (std::vector<int64_t>{-2, 1, -1, 0, -2}));
}

TEST(Values, SequencesMapsOptionalsAndSparseTensors) {
  const Tensor a = Tensor::of<float>({1, 2}), b = Tensor::of<float>({3});
  const Value sequence(Sequence{DType::Float32, {a, b}});
  const Value held = again(sequence, ProtoKind::Sequence);
  const Sequence& read = held.sequence();
  ASSERT_EQ(read.items.size(), 2u);
  EXPECT_EQ(read.element, DType::Float32);
  EXPECT_EQ(read.items[1].tensor().to_doubles(), std::vector<double>{3});
  const Value nested(Sequence{DType::Undefined, {sequence, sequence}});
  EXPECT_EQ(again(nested, ProtoKind::Sequence).sequence().items[1].sequence().items.size(), 2u);
  EXPECT_TRUE(again(Value(Sequence{}), ProtoKind::Sequence).sequence().items.empty());

  Map by_number, by_text;
  by_number.items = std::map<int64_t, Value>{{-4, a}, {9, b}};
  by_text.items = std::map<std::string, Value>{{"one", a}};
  EXPECT_EQ(std::get<0>(again(by_number, ProtoKind::Map).map().items).at(9).tensor().size(), 1);
  EXPECT_EQ(std::get<1>(again(by_text, ProtoKind::Map).map().items).at("one").tensor().size(), 2);

  EXPECT_TRUE(again(Value(Nothing{}), ProtoKind::Optional).is_nothing());
  const SparseTensor sparse{{4, 5}, Tensor::of<float>({1, 2}), Tensor::of<int64_t>({0, 1, 3, 4}, {2, 2})};
  const Value held_sparse = again(sparse, ProtoKind::SparseTensor);
  const SparseTensor& back = held_sparse.sparse();
  EXPECT_EQ(back.dims, sparse.dims);
  EXPECT_EQ(back.indices.to_int64s(), sparse.indices.to_int64s());
}

TEST(Values, DamagedBytesAreRefused) {
  const std::string bytes = export_value(Value(Sequence{DType::Float32, {Tensor::of<float>({1, 2})}}));
  for (size_t n = 1; n < bytes.size(); ++n)
    for (const auto kind : {ProtoKind::Tensor, ProtoKind::SparseTensor, ProtoKind::Sequence,
                            ProtoKind::Optional, ProtoKind::Map}) {
      try {
        import_value(bytes.data(), n, kind);
      } catch (const Error&) {
      }
    }
}

// y = If(c, x + k, x * random), with a capture that only one body uses.
Model conditional() {
  GraphBuilder main("main");
  const Type type = Type::tensor(DType::Float32, {Dim(2)});
  const ValueId c = main.input("c", Type::tensor(DType::Bool, Shape{}));
  const ValueId x = main.input("x", type);
  const ValueId k = main.constant(Tensor::of<float>({5, 6}), "k");
  GraphBuilder then("then"), other("else");
  {
    const ValueId inner_x = then.capture(0, "x", type), inner_k = then.capture(1, "k", type);
    then.output(then.op("Add", {inner_x, inner_k}));
  }
  {
    const ValueId inner_x = other.capture(0, "x", type);
    other.output(other.op("Mul", {inner_x, other.op("RandomNormalLike", {inner_x})}));
    other.reserve_captures(2);
  }
  Node node;
  node.op = "If";
  node.inputs = {c};
  node.outputs = {main.value("y", type)};
  node.captures = {x, k};
  node.attributes =
      attributes({{"then_branch", std::move(then).build()}, {"else_branch", std::move(other).build()}});
  main.output(node.outputs[0]);
  main.add(std::move(node));
  Model model;
  model.graph = std::move(main).build();
  return model;
}

TEST(Graphs, CapturesAreParallelInEveryBody) {
  const std::string bytes = export_bytes(conditional());
  const auto model = import_bytes(bytes.data(), bytes.size());
  const Graph& graph = *model->graph;
  ASSERT_EQ(graph.nodes().size(), 1u);
  const Node& node = graph.node(0);
  EXPECT_EQ(node.version, model->opsets.at(""));
  ASSERT_EQ(node.captures.size(), 2u);
  for (const char* branch : {"then_branch", "else_branch"}) {
    const Graph& body = *node.attributes.at<GraphPtr>(branch);
    ASSERT_EQ(body.captures().size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      const ValueId inner = body.captures()[i];
      if (inner == kNone) continue;
      EXPECT_EQ(body.value(inner).kind, ValueKind::Captured);
      EXPECT_EQ(body.value(inner).name, graph.value(node.captures[i]).name);
    }
    for (const Node& inner : body.nodes()) EXPECT_EQ(inner.stream != 0, inner.is("RandomNormalLike"));
  }
}

TEST(Graphs, LimitsOfTheCallerHold) {
  const std::string bytes = export_bytes(conditional());
  EXPECT_NO_THROW(import_bytes(bytes.data(), bytes.size(), "", "", {4, 1}));
  EXPECT_THROW(import_bytes(bytes.data(), bytes.size(), "", "", {3, 1}), LimitError);
  EXPECT_THROW(import_bytes(bytes.data(), bytes.size(), "", "", {4, 0}), LimitError);
}

TEST(Graphs, ConstantsThatAreNoTensorsAreMadeByOperators) {
  GraphBuilder builder;
  const ValueId sequence =
      builder.constant(Sequence{DType::Float32, {Tensor::of<float>({1}), Tensor::of<float>({2})}}, "s");
  const ValueId empty = builder.constant(Sequence{DType::Int64, {}}, "e");
  builder.output(builder.op("SequenceLength", {sequence}));
  builder.output(builder.op("SequenceLength", {empty}));
  Model model;
  model.graph = std::move(builder).build();
  const std::string bytes = export_bytes(model);
  const auto read = import_bytes(bytes.data(), bytes.size());
  std::vector<std::string> operators;
  for (const Node& node : read->graph->nodes()) operators.push_back(node.op);
  std::sort(operators.begin(), operators.end());
  EXPECT_EQ(operators, (std::vector<std::string>{"SequenceConstruct", "SequenceEmpty", "SequenceLength",
                                                 "SequenceLength"}));
}

TEST(Graphs, NodesThatExcludeEachOtherAreBothNamed) {
  GraphBuilder builder;
  const ValueId x = builder.input("x", Type::tensor(DType::Float32, {Dim(2)}));
  const auto add = [&](const char* op, int version, ValueId input) {
    Node node;
    node.op = op;
    node.version = version;
    node.inputs = {input};
    node.outputs = {builder.value(std::string("of_") + op, Type::tensor(DType::Float32, {Dim(2)}))};
    const ValueId output = node.outputs[0];
    builder.add(std::move(node));
    return output;
  };
  builder.output(add("Gelu", 20, add("Softmax", 11, x)));
  Model model;
  model.graph = std::move(builder).build();
  try {
    export_bytes(model);
    FAIL() << "Softmax of opset 11 and Gelu have no opset in common";
  } catch (const UnsupportedError& error) {
    EXPECT_NE(std::string(error.what()).find("'of_Gelu' (Gelu)"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("'of_Softmax' (Softmax)"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace sardonyx
