#include "ops/registry/operator.h"
#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_matmul(CaseTable& t) {
  const std::vector<std::pair<Dims, Dims>> shapes = {{{3, 4}, {4, 5}},
                                                     {{4}, {4, 5}},
                                                     {{3, 4}, {4}},
                                                     {{4}, {4}},
                                                     {{2, 3, 4}, {4, 5}},
                                                     {{2, 3, 4}, {2, 4, 5}},
                                                     {{2, 1, 3, 4}, {5, 4, 6}},
                                                     {{64, 48}, {48, 80}},
                                                     {{0, 4}, {4, 5}},
                                                     {{3, 0}, {0, 5}},
                                                     {{1, 256}, {256, 64}}};
  for (const auto& [a, b] : shapes) t.add("MatMul", {f32(a), f32(b)});
  t.add("MatMul", {f32({7, 16, 32}), constant<float>(std::vector<float>(32 * 24, 0.25f), {32, 24})});
  t.add("MatMul", {typed(DType::Int32, {3, 4}), typed(DType::Int32, {4, 5})});
  for (const int64_t ta : {0, 1})
    for (const int64_t tb : {0, 1})
      for (const auto& [a, b] : std::vector<std::pair<Dims, Dims>>{{{3, 4}, {4, 5}},
                                                                   {{2, 3, 4}, {4, 5}},
                                                                   {{2, 3, 4}, {2, 4, 5}},
                                                                   {{2, 1, 3, 4}, {5, 4, 6}},
                                                                   {{3, 4, 40, 33}, {3, 4, 33, 50}}}) {
        Dims x = a, y = b;
        if (ta) std::swap(x[x.size() - 2], x.back());
        if (tb) std::swap(y[y.size() - 2], y.back());
        t.add("MatMulTransposed", {f32(x), f32(y)})
            .integer("transA", ta)
            .integer("transB", tb)
            .of(kOwnDomain);
      }
  t.add("Gemm", {f32({3, 4}), f32({4, 5}), f32({5})});
  t.add("Gemm", {f32({4, 3}), f32({5, 4}), f32({3, 1})})
      .integer("transA", 1)
      .integer("transB", 1)
      .number("alpha", 0.5f)
      .number("beta", 2);
  t.add("Gemm", {f32({33, 64}), f32({10, 64})}).integer("transB", 1);
  for (const auto& [equation, shapes2] : std::vector<std::pair<std::string, std::vector<Dims>>>{
           {"ij,jk->ik", {{3, 4}, {4, 5}}},
           {"bij,bjk->bik", {{2, 3, 4}, {2, 4, 5}}},
           {"ii->i", {{4, 4}}},
           {"ij->ji", {{3, 4}}},
           {"i,i->", {{5}, {5}}},
           {"...ij,...jk->...ik", {{2, 3, 4}, {2, 4, 5}}},
           {"bhid,bhjd->bhij", {{2, 3, 4, 5}, {2, 3, 6, 5}}},
           {"ij->", {{3, 4}}},
           {"a,b,c->abc", {{2}, {3}, {4}}},
           {"ij,jk,kl->il", {{2, 3}, {3, 4}, {4, 2}}},
           {"ijk,k->j", {{2, 3, 4}, {4}}},
           {"ij,k->k", {{2, 3}, {4}}},
           {"ii->", {{3, 3}}},
           {"iji->j", {{3, 2, 3}}},
           {"iij,jk->ik", {{3, 3, 2}, {2, 4}}},
           {"iii,i->i", {{3, 3, 3}, {3}}},
           {"ba,cd", {{2, 3}, {4, 2}}},
           {"bij,bjk", {{2, 3, 4}, {2, 4, 5}}},
           {"i...j,...j->...i", {{3, 2, 4, 5}, {1, 4, 5}}},
           {"a...,a...", {{3, 1, 2}, {3, 4, 1}}},
           {"...a->a...", {{3, 2, 4}}},
           {"...->", {{3, 2}}},
           {"...ii->...", {{2, 3, 3}}}}) {
    std::vector<Input> inputs;
    for (const auto& dims : shapes2) inputs.push_back(f32(dims));
    t.add("Einsum", inputs).text("equation", equation);
  }
}

}  // namespace sardonyx::test
