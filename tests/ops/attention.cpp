#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_attention(CaseTable& t) {
  t.add("Attention", {f32({2, 3, 5, 8}), f32({2, 3, 6, 8}), f32({2, 3, 6, 7})});
  t.add("Attention", {f32({2, 4, 5, 8}), f32({2, 2, 6, 8}), f32({2, 2, 6, 8})}).integer("is_causal", 1);
  t.add("Attention", {f32({2, 5, 24}), f32({2, 6, 24}), f32({2, 6, 24}), f32({5, 6})})
      .integer("q_num_heads", 3)
      .integer("kv_num_heads", 3);
  const auto four = [&] {
    return std::vector<Input>{f32({2, 4, 5, 8}), f32({2, 2, 6, 8}), f32({2, 2, 6, 7})};
  };
  const auto with = [&](std::vector<Input> inputs, std::vector<Input> more) {
    inputs.insert(inputs.end(), more.begin(), more.end());
    return inputs;
  };
  const auto bools = [](Dims dims) { return typed(DType::Bool, std::move(dims)); };
  t.add("Attention", four()).number("scale", 0.3f).number("softcap", 1.5f);
  t.add("Attention", four()).integer("left_window_size", 1).integer("right_window_size", 2);
  t.add("Attention", four()).integer("left_window_size", 2).integer("is_causal", 1);
  t.add("Attention", with(four(), {f32({6})}));
  t.add("Attention", with(four(), {f32({2, 1, 5, 6})})).integer("is_causal", 1);
  t.add("Attention", with(four(), {bools({4, 5, 6})}));
  // Its last row sees nothing.
  t.add("Attention", {f32({1, 1, 2, 4}), f32({1, 1, 3, 4}), f32({1, 1, 3, 4}),
                      constant<bool>({true, false, true, false, false, false}, {2, 3})});
  t.add("Attention", with(four(), {f32({5, 4})}));
  t.add("Attention", with(four(), {bools({2, 4, 5, 4})}));
  t.add("Attention", with(four(), {none(), none(), none(), constant<int64_t>({4, 6})}))
      .integer("is_causal", 1);
  t.add("Attention", with(four(), {f32({2, 4, 5, 9}), f32({2, 2, 3, 8}), f32({2, 2, 3, 7})}))
      .integer("is_causal", 1)
      .gives(3);
  t.add("Attention", with(four(), {none(), f32({2, 2, 3, 8}), f32({2, 2, 3, 7})})).gives(4);
  for (const int64_t mode : {0, 1, 2, 3})
    t.add("Attention", with(four(), {f32({5, 9}), f32({2, 2, 3, 8}), f32({2, 2, 3, 7})}))
        .number("softcap", 2)
        .integer("qk_matmul_output_mode", mode)
        .gives(4);
  t.add("Attention",
        {f32({2, 5, 24}), f32({2, 6, 12}), f32({2, 6, 10}), none(), f32({2, 2, 3, 6}), f32({2, 2, 3, 5})})
      .integer("q_num_heads", 4)
      .integer("kv_num_heads", 2)
      .integer("is_causal", 1)
      .gives(3);
  const auto flex = [&](const std::vector<Input>& inputs) -> Case& {
    Case& c = t.add("FlexAttention", inputs);
    c.domain = "ai.onnx.preview";
    return c;
  };
  flex({f32({2, 3, 5, 8}), f32({2, 3, 6, 8}), f32({2, 3, 6, 7})});
  flex(four()).number("scale", 0.3f);
  const Input ids = constant<int64_t>({0, 1, 2, 3, 4, 1, 6, 7}, {2, 4});
  for (const int64_t interleaved : {0, 1}) {
    t.add("RotaryEmbedding", {f32({2, 3, 4, 8}), f32({10, 4}), f32({10, 4}), ids})
        .integer("interleaved", interleaved)
        .only_f32();
    t.add("RotaryEmbedding", {f32({2, 3, 4, 8}), f32({2, 4, 2}), f32({2, 4, 2})})
        .integer("interleaved", interleaved)
        .integer("rotary_embedding_dim", 4)
        .only_f32();
    t.add("RotaryEmbedding", {f32({2, 4, 24}), f32({2, 4, 4}), f32({2, 4, 4})})
        .integer("interleaved", interleaved)
        .integer("num_heads", 3)
        .only_f32();
  }
}

}  // namespace sardonyx::test
