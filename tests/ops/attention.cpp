#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_attention(CaseTable& t) {
  t.add("Attention", {f32({2, 3, 5, 8}), f32({2, 3, 6, 8}), f32({2, 3, 6, 7})});
  t.add("Attention", {f32({2, 4, 5, 8}), f32({2, 2, 6, 8}), f32({2, 2, 6, 8})}).integer("is_causal", 1);
  t.add("Attention", {f32({2, 5, 24}), f32({2, 6, 24}), f32({2, 6, 24}), f32({5, 6})})
      .integer("q_num_heads", 3)
      .integer("kv_num_heads", 3);
  t.add("RotaryEmbedding",
        {f32({2, 3, 4, 8}), f32({10, 4}), f32({10, 4}), constant<int64_t>({0, 1, 2, 3, 4, 5, 6, 7}, {2, 4})})
      .only_f32();
}

}  // namespace sardonyx::test
