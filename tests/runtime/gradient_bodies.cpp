// Gradients through bodies and sequences, against central differences.
#include <gtest/gtest.h>

#include <functional>

#include "api/differentiable.h"
#include "autodiff/backward.h"
#include "tests/support/gradient.h"
#include "tests/support/models.h"

namespace sardonyx::test {

namespace {

Type f64(Dims dims) { return Type::tensor(DType::Float64, shape_of(dims)); }
Type f64() { return Type::tensor(DType::Float64); }

ValueId integer(GraphBuilder& b, int64_t v) { return b.constant(Tensor::scalar<int64_t>(v)); }

Tensor numbers(Dims dims, uint64_t seed) {
  std::mt19937_64 random(seed);
  return random_like(Tensor(DType::Float64, std::move(dims)), random);
}

// Checks d(all float outputs) / d(all f64 inputs); also with symbolic dims and, where asked, the gradient of
// the gradient.
void expect_gradient(GraphBuilder builder, const Feeds& feeds, bool second_order = true) {
  const LoadedModel model = model_of(std::move(builder));
  GradientCheck check;
  for (const auto& [name, value] : feeds)
    if (value.is_tensor() && value.tensor().dtype() == DType::Float64) check.wrt.push_back(name);
  EXPECT_LE(gradient_error(model, feeds, check), 1e-6) << "ref kernels";
  check.prefer_kernel.clear();
  EXPECT_LE(gradient_error(model, feeds, check), 1e-6) << "the kernels of a session";
  check.symbolic = true;
  EXPECT_LE(gradient_error(model, feeds, check), 1e-6) << "symbolic dims";
  if (!second_order) return;
  check.symbolic = false;
  EXPECT_LE(second_order_error(model, feeds, check), 1e-5) << "second order";
}

std::vector<ValueId> add_node(GraphBuilder& b, const std::string& op, std::vector<ValueId> inputs,
                              std::vector<ValueId> captures, size_t outputs, Attributes attributes) {
  const auto made = b.ops(op, std::move(inputs), outputs, std::move(attributes));
  b.node(static_cast<NodeId>(b.graph().nodes().size() - 1)).captures = std::move(captures);
  return made;
}

GraphPtr body_of(const std::function<void(GraphBuilder&)>& f) {
  GraphBuilder b("body");
  f(b);
  return std::move(b).build();
}

}  // namespace

// y = cond ? sin(a * b) : a * a * c, of captures that not both branches read.
TEST(GradientBodies, If) {
  for (const bool condition : {true, false}) {
    GraphBuilder b("if");
    const ValueId cond = b.input("cond", Type::tensor(DType::Bool, {}));
    const ValueId a0 = b.input("a", f64({2, 3})), b0 = b.input("b", f64({3})), c0 = b.input("c", f64({2, 1}));
    const ValueId a = b.op("Exp", {a0});
    const auto yes = body_of([](GraphBuilder& t) {
      const ValueId x = t.capture(0, "a", f64()), y = t.capture(1, "b", f64());
      t.reserve_captures(3);
      t.output(t.op("Sin", {t.op("Mul", {x, y})}));
      t.output(t.op("Identity", {x}));
    });
    const auto no = body_of([](GraphBuilder& t) {
      const ValueId x = t.capture(0, "a", f64()), z = t.capture(2, "c", f64());
      t.output(t.op("Tanh", {t.op("Mul", {t.op("Mul", {x, x}), z})}));
      t.output(t.op("Mul", {x, z}));
    });
    const auto y =
        add_node(b, "If", {cond}, {a, b0, c0}, 2, attributes({{"then_branch", yes}, {"else_branch", no}}));
    b.output(y[0]);
    b.output(b.op("Mul", {y[1], a}));
    expect_gradient(std::move(b), {{"cond", Tensor::scalar<bool>(condition)},
                                   {"a", numbers({2, 3}, 1)},
                                   {"b", numbers({3}, 2)},
                                   {"c", numbers({2, 1}, 3)}});
  }
}

namespace {

// h = tanh(x_t W + h) with a scan output h * h and another that only x flows to.
GraphPtr cell(bool with_second) {
  return body_of([&](GraphBuilder& t) {
    const ValueId h = t.input("h", f64()), x = t.input("x", f64()), z = t.input("z", f64());
    const ValueId w = t.capture(0, "w", f64());
    const ValueId next = t.op("Tanh", {t.op("Add", {t.op("MatMul", {x, w}), t.op("Mul", {h, z})})});
    t.output(next);
    t.output(t.op("Mul", {next, next}));
    if (with_second) t.output(t.op("Exp", {x}));
  });
}

}  // namespace

// As many turns as x is long; there may be none.
void expect_scan(int64_t length, int64_t in_direction, int64_t out_direction) {
  GraphBuilder b("scan");
  const ValueId h = b.input("h", f64({2, 3})), x = b.input("x", f64({2, length, 4})),
                z = b.input("z", f64({length, 3})), w = b.input("w", f64({4, 3}));
  const auto y =
      add_node(b, "Scan", {h, x, z}, {w}, 3,
               attributes({{"body", cell(true)},
                           {"num_scan_inputs", int64_t{2}},
                           {"scan_input_axes", std::vector<int64_t>{1, 0}},
                           {"scan_input_directions", std::vector<int64_t>{in_direction, 1 - in_direction}},
                           {"scan_output_axes", std::vector<int64_t>{-1, 1}},
                           {"scan_output_directions", std::vector<int64_t>{out_direction, 0}}}));
  for (const ValueId id : y) b.output(id);
  expect_gradient(std::move(b), {{"h", numbers({2, 3}, 1)},
                                 {"x", numbers({2, length, 4}, 2)},
                                 {"z", numbers({length, 3}, 3)},
                                 {"w", numbers({4, 3}, 4)}});
}

TEST(GradientBodies, Scan) {
  for (const int64_t in_direction : {0, 1})
    for (const int64_t out_direction : {0, 1})
      for (const int64_t length : {5, 1, 0}) {
        SCOPED_TRACE(length);
        expect_scan(length, in_direction, out_direction);
      }
}

// Only the last state is used, and only by the way of a sum that reads nothing back.
TEST(GradientBodies, ScanThatSavesNothing) {
  GraphBuilder b("scan");
  const ValueId h = b.input("h", f64({3})), x = b.input("x", f64({5, 3}));
  const auto body = body_of([](GraphBuilder& t) {
    const ValueId s = t.input("s", f64()), v = t.input("v", f64());
    t.output(t.op("Add", {s, v}));
  });
  b.output(
      add_node(b, "Scan", {h, x}, {}, 1, attributes({{"body", body}, {"num_scan_inputs", int64_t{1}}}))[0]);
  expect_gradient(std::move(b), {{"h", numbers({3}, 1)}, {"x", numbers({5, 3}, 2)}});
}

// A loop that ends by its condition, with a state, a state of integers and a scan output.
TEST(GradientBodies, Loop) {
  for (const int64_t most : {0, 1, 4, 100}) {
    GraphBuilder b("loop");
    const ValueId m = b.input("m", Type::tensor(DType::Int64, {}));
    const ValueId x = b.input("x", f64({2, 3})), w = b.input("w", f64({3, 3}));
    const auto body = body_of([](GraphBuilder& t) {
      const ValueId i = t.input("i", Type::tensor(DType::Int64, {})),
                    go = t.input("go", Type::tensor(DType::Bool, {}));
      (void)go;
      const ValueId h = t.input("h", f64()), n = t.input("n", Type::tensor(DType::Int64));
      const ValueId w = t.capture(0, "w", f64());
      const ValueId scale = t.op("Cast", {t.op("Add", {i, n})}, attributes({{"to", int64_t{11}}}));
      const ValueId next = t.op("Sin", {t.op("Add", {t.op("MatMul", {h, w}), t.op("Div", {h, scale})})});
      t.output(t.op("Less", {i, integer(t, 5)}));
      t.output(next);
      t.output(t.op("Add", {n, integer(t, 2)}));
      t.output(t.op("ReduceSum", {t.op("Mul", {next, h})}, attributes({{"keepdims", int64_t{0}}})));
    });
    const auto y = add_node(b, "Loop", {m, b.constant(Tensor::scalar<bool>(true)), x, integer(b, 1)}, {w}, 3,
                            attributes({{"body", body}}));
    b.output(y[0]);
    b.output(y[2]);
    expect_gradient(
        std::move(b),
        {{"m", Tensor::scalar<int64_t>(most)}, {"x", numbers({2, 3}, 1)}, {"w", numbers({3, 3}, 2)}},
        most < 100);
  }
}

// A state that grows with every turn.
TEST(GradientBodies, LoopWithAGrowingState) {
  GraphBuilder b("loop");
  const ValueId x = b.input("x", f64({1, 2})), s = b.input("s", f64({2}));
  const auto body = body_of([](GraphBuilder& t) {
    t.input("i", Type::tensor(DType::Int64, {}));
    const ValueId go = t.input("go", Type::tensor(DType::Bool, {})),
                  h = t.input("h", Type::tensor(DType::Float64));
    const ValueId s = t.capture(0, "s", f64());
    const ValueId last =
        t.op("Slice", {h, t.constant(Tensor::of<int64_t>({-1})), t.constant(Tensor::of<int64_t>({100}))});
    t.output(t.op("Identity", {go}));
    t.output(t.op("Concat", {h, t.op("Sin", {t.op("Mul", {last, s})})}, attributes({{"axis", int64_t{0}}})));
  });
  b.output(add_node(b, "Loop", {integer(b, 4), kNone, x}, {s}, 1, attributes({{"body", body}}))[0]);
  expect_gradient(std::move(b), {{"x", numbers({1, 2}, 1)}, {"s", numbers({2}, 2)}});
}

// An If in a Loop in a Scan, all of which read a value of the outermost graph.
TEST(GradientBodies, Nested) {
  GraphBuilder b("nested");
  const ValueId h = b.input("h", f64({3})), x = b.input("x", f64({4, 3})), w = b.input("w", f64({3}));
  const auto scan_body = body_of([](GraphBuilder& t) {
    const ValueId h = t.input("h", f64({3})), v = t.input("v", f64({3})), w = t.capture(0, "w", f64({3}));
    const auto loop_body = body_of([](GraphBuilder& u) {
      const ValueId i = u.input("i", Type::tensor(DType::Int64, {})),
                    go = u.input("go", Type::tensor(DType::Bool, {}));
      const ValueId s = u.input("s", f64()), w = u.capture(0, "w", f64()), v = u.capture(1, "v", f64());
      const ValueId odd = u.op("Equal", {u.op("Mod", {i, integer(u, 2)}), integer(u, 1)});
      const auto yes = body_of([](GraphBuilder& q) {
        const ValueId s = q.capture(0, "s", f64()), w = q.capture(1, "w", f64());
        q.output(q.op("Sin", {q.op("Mul", {s, w})}));
      });
      const auto no = body_of([](GraphBuilder& q) {
        const ValueId s = q.capture(0, "s", f64()), v = q.capture(2, "v", f64());
        q.output(q.op("Mul", {s, q.op("Cos", {q.op("Mul", {s, v})})}));
      });
      const ValueId next =
          add_node(u, "If", {odd}, {s, w, v}, 1, attributes({{"then_branch", yes}, {"else_branch", no}}))[0];
      u.output(u.op("Identity", {go}));
      u.output(next);
    });
    const ValueId last = add_node(t, "Loop", {integer(t, 3), kNone, t.op("Add", {h, v})}, {w, v}, 1,
                                  attributes({{"body", loop_body}}))[0];
    t.output(last);
    t.output(t.op("Mul", {last, w}));
  });
  const auto y =
      add_node(b, "Scan", {h, x}, {w}, 2, attributes({{"body", scan_body}, {"num_scan_inputs", int64_t{1}}}));
  b.output(y[0]);
  b.output(y[1]);
  expect_gradient(std::move(b), {{"h", numbers({3}, 1)}, {"x", numbers({4, 3}, 2)}, {"w", numbers({3}, 3)}},
                  false);
}

// Items that are read twice, never, at a negative position and by position from a feed.
TEST(GradientBodies, Sequences) {
  GraphBuilder b("sequence");
  const ValueId x = b.input("x", f64({2, 3})), y = b.input("y", f64({3})), z = b.input("z", f64({2}));
  const ValueId at = b.input("at", Type::tensor(DType::Int64, {}));
  const ValueId whole = b.op("SequenceConstruct", {x, y, z, y});
  const ValueId longer = b.op("SequenceInsert", {whole, b.op("Sin", {z}), integer(b, -1)});
  const ValueId shorter = b.op("SequenceErase", {b.op("SequenceInsert", {longer, y}), integer(b, 1)});
  b.output(b.op("SequenceLength", {shorter}));
  b.output(b.op("SequenceAt", {shorter, integer(b, -1)}));
  b.output(b.op("Exp", {b.op("SequenceAt", {longer, at})}));
  const ValueId first = b.op("SequenceAt", {whole, integer(b, 0)});
  b.output(b.op("Mul", {first, first}));
  b.output(b.op("SequenceAt", {b.op("SequenceErase", {longer}), integer(b, -1)}));
  expect_gradient(std::move(b), {{"x", numbers({2, 3}, 1)},
                                 {"y", numbers({3}, 2)},
                                 {"z", numbers({2}, 3)},
                                 {"at", Tensor::scalar<int64_t>(-2)}});
}

TEST(GradientBodies, SplitAndConcat) {
  for (const bool keepdims : {false, true}) {
    GraphBuilder b("split");
    const ValueId x = b.input("x", f64({2, 5})), y = b.input("y", f64({2, 4}));
    const ValueId parts =
        b.op("SplitToSequence", {x}, attributes({{"axis", int64_t{-1}}, {"keepdims", int64_t{keepdims}}}));
    b.output(b.op("Sin", {b.op("SequenceAt", {parts, integer(b, 3)})}));
    const ValueId uneven = b.op("SplitToSequence", {y, b.constant(Tensor::of<int64_t>({1, 0, 3}))},
                                attributes({{"axis", int64_t{1}}}));
    b.output(b.op("Exp", {b.op("ConcatFromSequence", {uneven}, attributes({{"axis", int64_t{-1}}}))}));
    expect_gradient(std::move(b), {{"x", numbers({2, 5}, 1)}, {"y", numbers({2, 4}, 2)}});
  }
}

// A sequence that a loop builds, read by another loop.
TEST(GradientBodies, SequencesInLoops) {
  GraphBuilder b("loops");
  const ValueId x = b.input("x", f64({3})), w = b.input("w", f64({3}));
  const Type sequence = Type::sequence(Type::tensor(DType::Float64));
  const auto build = body_of([&](GraphBuilder& t) {
    t.input("i", Type::tensor(DType::Int64, {}));
    const ValueId go = t.input("go", Type::tensor(DType::Bool, {})), s = t.input("s", sequence),
                  h = t.input("h", f64({3}));
    const ValueId next = t.op("Sin", {t.op("Mul", {h, t.capture(0, "w", f64({3}))})});
    t.output(t.op("Identity", {go}));
    t.output(t.op("SequenceInsert", {s, next}));
    t.output(next);
  });
  const auto read = body_of([&](GraphBuilder& t) {
    const ValueId i = t.input("i", Type::tensor(DType::Int64, {})),
                  go = t.input("go", Type::tensor(DType::Bool, {})), h = t.input("h", f64({3}));
    const ValueId item = t.op("SequenceAt", {t.capture(0, "s", sequence), i});
    t.output(t.op("Identity", {go}));
    t.output(t.op("Add", {h, t.op("Mul", {item, t.op("Mul", {item, t.capture(1, "w", f64({3}))})})}));
  });
  const ValueId empty = b.op("SequenceEmpty", {}, attributes({{"dtype", int64_t{11}}}));
  const ValueId turns = integer(b, 4);
  const auto made = add_node(b, "Loop", {turns, kNone, empty, x}, {w}, 2, attributes({{"body", build}}));
  b.output(add_node(b, "Loop", {turns, kNone, x}, {made[0], w}, 1, attributes({{"body", read}}))[0]);
  b.output(
      b.op("ConcatFromSequence", {made[0]}, attributes({{"axis", int64_t{0}}, {"new_axis", int64_t{1}}})));
  expect_gradient(std::move(b), {{"x", numbers({3}, 1)}, {"w", numbers({3}, 2)}});
}

// Every turn reads all items that were there before it, of different sizes, and one more is put in; a turn
// of another loop inside reads them one by one.
TEST(GradientBodies, SequencesReadWhole) {
  for (const int64_t turns : {0, 1, 4}) {
    SCOPED_TRACE(turns);
    GraphBuilder b("whole");
    const ValueId x = b.input("x", f64({3})), w = b.input("w", f64({1}));
    const Type sequence = Type::sequence(Type::tensor(DType::Float64));
    const auto sum = body_of([&](GraphBuilder& t) {
      const ValueId i = t.input("i", Type::tensor(DType::Int64, {})),
                    go = t.input("go", Type::tensor(DType::Bool, {})), h = t.input("h", f64());
      const ValueId item = t.op("SequenceAt", {t.capture(0, "s", sequence), i});
      t.output(t.op("Identity", {go}));
      t.output(t.op("Add", {h, t.op("ReduceSum", {t.op("Mul", {item, item})})}));
    });
    const auto body = body_of([&](GraphBuilder& t) {
      t.input("i", Type::tensor(DType::Int64, {}));
      const ValueId go = t.input("go", Type::tensor(DType::Bool, {})), s = t.input("s", sequence),
                    h = t.input("h", f64()), w = t.capture(0, "w", f64({1}));
      const ValueId all = t.op("ConcatFromSequence", {s}, attributes({{"axis", int64_t{0}}}));
      const ValueId next =
          t.op("Sin", {t.op("Mul", {t.op("Concat", {all, w}, attributes({{"axis", int64_t{0}}})), w})});
      const ValueId one = t.constant(Tensor::of<double>({0.5}));
      t.output(t.op("Identity", {go}));
      t.output(t.op("SequenceInsert", {s, next, integer(t, 0)}));
      t.output(t.op("Add", {h, add_node(t, "Loop",
                                        {t.op("SequenceLength", {s}), kNone,
                                         t.op("ReduceSum", {t.op("Mul", {one, next})})},
                                        {s}, 1, attributes({{"body", sum}}))[0]}));
    });
    const ValueId first = b.op("SequenceConstruct", {x});
    const auto made = add_node(b, "Loop", {integer(b, turns), kNone, first, b.op("Mul", {w, w})}, {w}, 2,
                               attributes({{"body", body}}));
    b.output(b.op("Exp", {made[1]}));
    b.output(b.op("ConcatFromSequence", {made[0]}, attributes({{"axis", int64_t{0}}})));
    expect_gradient(std::move(b),
                    {{"x", Tensor::of<double>({0.1, -0.3, 0.2})}, {"w", Tensor::of<double>({0.7})}});
  }
}

TEST(GradientBodies, SequenceMap) {
  GraphBuilder b("map");
  const ValueId x = b.input("x", f64({2, 3})), y = b.input("y", f64({3})), w = b.input("w", f64({3})),
                v = b.input("v", f64({3}));
  const auto body = body_of([](GraphBuilder& t) {
    const ValueId a = t.input("a", f64()), w = t.input("w", f64()), c = t.input("c", f64());
    t.output(t.op("Sin", {t.op("Mul", {t.op("Mul", {a, w}), t.capture(0, "v", f64())})}));
    t.output(t.op("Mul", {a, c}));
  });
  const ValueId first = b.op("SequenceConstruct", {x, y}), second = b.op("SequenceConstruct", {y, w});
  const auto maps = add_node(b, "SequenceMap", {first, w, second}, {v}, 2, attributes({{"body", body}}));
  b.output(b.op("ConcatFromSequence",
                {b.op("SequenceConstruct", {b.op("SequenceAt", {maps[0], integer(b, 0)}), x})},
                attributes({{"axis", int64_t{1}}})));
  b.output(b.op("SequenceAt", {maps[1], integer(b, 1)}));
  expect_gradient(
      std::move(b),
      {{"x", numbers({2, 3}, 1)}, {"y", numbers({3}, 2)}, {"w", numbers({3}, 3)}, {"v", numbers({3}, 4)}},
      false);
}

// An optional of which only one branch reads the element.
TEST(GradientBodies, Optional) {
  for (const bool condition : {true, false}) {
    GraphBuilder b("optional");
    const ValueId cond = b.input("cond", Type::tensor(DType::Bool, {})), x = b.input("x", f64({2}));
    const ValueId held = b.op("Optional", {b.op("Exp", {x})});
    const Type type = Type::optional(f64({2}));
    const auto yes = body_of([&](GraphBuilder& t) {
      t.output(t.op("Sin", {t.op("OptionalGetElement", {t.capture(0, "o", type)})}));
      t.reserve_captures(2);
    });
    const auto no = body_of([&](GraphBuilder& t) { t.output(t.op("Neg", {t.capture(1, "x", f64({2}))})); });
    b.output(
        add_node(b, "If", {cond}, {held, x}, 1, attributes({{"then_branch", yes}, {"else_branch", no}}))[0]);
    expect_gradient(std::move(b), {{"cond", Tensor::scalar<bool>(condition)}, {"x", numbers({2}, 1)}});
  }
}

// The gradient of a sequence that is fed has the shapes of its items, also of those that nothing reads.
TEST(GradientBodies, OfASequence) {
  GraphBuilder b("fed");
  const ValueId s = b.input("s", Type::sequence(Type::tensor(DType::Float64)));
  const ValueId item = b.op("SequenceAt", {s, integer(b, 1)});
  const ValueId y = b.value("y");
  Node node;
  node.op = "Mul";
  node.inputs = {item, item};
  node.outputs = {y};
  b.add(std::move(node));
  b.output(y);
  const GraphPtr graph = differentiable(std::move(b).build(), nullptr);
  GraphBuilder gradient(*graph);
  const ValueId d_y = gradient.input("d_y", f64({4}));
  const ValueId d_s = append_gradient(gradient, graph->outputs(), {d_y}, graph->inputs())[0];
  gradient.set_outputs({d_s});
  Session session(model_of(std::move(gradient)));
  const Tensor first = numbers({2, 3}, 1), second = numbers({4}, 2), dy = numbers({4}, 3);
  const std::vector<Value> results =
      session.run({{"s", Sequence{DType::Float64, {first, second}}}, {"d_y", dy}});
  const std::vector<Value>& items = results.at(0).sequence().items;
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].tensor().dims(), first.dims());
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(items[0].tensor().data<double>()[i], 0);
  ASSERT_EQ(items[1].tensor().dims(), second.dims());
  for (int64_t i = 0; i < 4; ++i)
    EXPECT_DOUBLE_EQ(items[1].tensor().data<double>()[i],
                     2 * second.data<double>()[i] * dy.data<double>()[i]);
}

// Updates of zero: alone at their place, over a zero of the data, and beside another zero, which is a
// constant for the second derivative.
TEST(GradientBodies, ScatteredProductOfZeros) {
  for (const char* op : {"ScatterElements", "ScatterND"})
    for (const bool shared : {false, true}) {
      GraphBuilder b("zeros");
      const bool elements = std::string(op) == "ScatterElements";
      const ValueId x = b.input("x", f64({5})), u = b.input("u", f64({7}));
      const Dims dims = elements ? Dims{7} : Dims{7, 1};
      const ValueId at = b.constant(Tensor::of<int64_t>({0, 0, 1, 1, 2, 3, 3}, dims));
      b.output(b.op(op, {x, at, u}, attributes({{"reduction", std::string("mul")}})));
      const double beside = shared ? 0 : 0.5;
      expect_gradient(std::move(b),
                      {{"x", Tensor::of<double>({2, 3, 0, 0, 1})},
                       {"u", Tensor::of<double>({beside, 1.5, beside, beside, 0, 2, 3})}},
                      !shared);
    }
}

// Whose output has one axis more than its input, and an unknown type by ONNX's inference.
TEST(GradientBodies, ArrayFeatureExtractorOfAVector) {
  GraphBuilder b("extract");
  const ValueId x = b.input("x", f64({5}));
  b.output(b.ops("ArrayFeatureExtractor", {x, b.constant(Tensor::of<int64_t>({4, 0, 4}))}, 1, {},
                 "ai.onnx.ml")[0]);
  expect_gradient(std::move(b), {{"x", numbers({5}, 1)}});
}

}  // namespace sardonyx::test
