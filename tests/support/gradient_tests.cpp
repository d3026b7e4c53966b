// The case table's gradients: every case of an operator that has one, in f64 against central differences.
#include <gtest/gtest.h>

#include "ops/registry/operator.h"
#include "tests/support/cases.h"
#include "tests/support/gradient.h"

namespace sardonyx::test {

namespace {

class GradientTest : public testing::Test {
 public:
  explicit GradientTest(const Case& c) : case_(c) {}
  void TestBody() override {
    SCOPED_TRACE(case_.name());
    const Prepared prepared = make_model(case_, 1, DType::Float64);
    GradientCheck check;
    for (const auto& [name, value] : prepared.feeds)
      if (value.is_tensor() && value.tensor().dtype() == DType::Float64) check.wrt.push_back(name);
    if (check.wrt.empty()) return;
    EXPECT_LE(gradient_error(prepared.model, prepared.feeds, check), 1e-6) << "ref kernels";
    check.prefer_kernel.clear();
    EXPECT_LE(gradient_error(prepared.model, prepared.feeds, check), 1e-6) << "the kernels of a session";
    check.symbolic = true;
    EXPECT_LE(gradient_error(prepared.model, prepared.feeds, check), 1e-6) << "symbolic dims";
    check.symbolic = false;
    EXPECT_LE(second_order_error(prepared.model, prepared.feeds, check), 1e-5) << "second order";
  }

 private:
  Case case_;
};

bool is_checked(const Case& c) {
  const Operator* op = OperatorRegistry::instance().find(c.domain, c.op);
  if (!op || !c.f64 || !c.has_gradient || op->impure || !op->no_gradient.empty()) return false;
  return op->gradient || op->decompose;
}

}  // namespace

void register_gradient_tests() {
  int number = 0;
  for (const Case& c : case_table().all()) {
    const std::string name = c.op + "_" + std::to_string(number++);
    if (is_checked(c))
      testing::RegisterTest("Gradients", name.c_str(), nullptr, c.name().c_str(), __FILE__, __LINE__,
                            [&c]() -> testing::Test* { return new GradientTest(c); });
  }
}

}  // namespace sardonyx::test
