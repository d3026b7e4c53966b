// Runs the case table: every kernel against ref, every stage, the fake device, f64, two threads' counts,
// NaN and infinity, and 16-bit floats.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "providers/runtime/executor.h"
#include "providers/runtime/registry.h"
#include "sardonyx/tools.h"
#include "tests/support/cases.h"

namespace sardonyx::test {

namespace {

std::vector<Value> run(const Prepared& prepared, SessionOptions options) {
  Session session(prepared.model, std::move(options));
  return session.run(prepared.feeds);
}

void expect_close(const std::vector<Value>& got, const std::vector<Value>& expected, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_LE(difference(got[i], expected[i]), tolerance) << what << ", output " << i;
}

SessionOptions with_kernel(const std::string& kernel) {
  SessionOptions options;
  options.prefer_kernel = kernel;
  options.optimize = "none";
  return options;
}

class CaseTest : public testing::Test {
 public:
  explicit CaseTest(const Case& c) : case_(c) {}
  void TestBody() override {
    SCOPED_TRACE(case_.name());
    const Prepared prepared = make_model(case_, 1);
    const std::vector<Value> reference = run(prepared, with_kernel("ref"));
    // Every kernel that the provider has for the operator.
    std::set<std::string> kernels;
    for (const auto& kernel : find_provider("cpu")->kernels().find(case_.domain, case_.op))
      kernels.insert(kernel.name);
    for (const auto& kernel : kernels)
      expect_close(run(prepared, with_kernel(kernel)), reference, case_.tolerance, "kernel " + kernel);
    // As a session runs it by default, only simplified, without plan passes, and without each pass that
    // changes it.
    expect_close(run(prepared, {}), reference, case_.tolerance, "default");
    SessionOptions left_out;
    const auto expect_the_same = [&](const std::string& what) {
      expect_close(run(prepared, left_out), reference, case_.tolerance, "without " + what);
    };
    left_out.disabled_passes = pass_names("planned");
    expect_the_same("plan passes");
    for (std::string& name : pass_names("fused")) left_out.disabled_passes.push_back(std::move(name));
    expect_the_same("plan passes and fusions");
    const std::string whole = print_stage(prepared.model, "fused");
    for (const std::string& name : pass_names()) {
      left_out.disabled_passes = {name};
      const auto planned = pass_names("planned");
      if (std::find(planned.begin(), planned.end(), name) != planned.end() ||
          print_stage(prepared.model, "fused", left_out) != whole)
        expect_the_same(name);
    }
    // One thread and two give the same bits.
    SessionOptions one, two;
    one.threads = 1;
    two.threads = 2;
    expect_close(run(prepared, one), run(prepared, one), 0, "the same run twice");
    expect_close(run(prepared, two), reference, case_.tolerance, "two threads");
    // A device that is late and whose memory is out of reach.
    SessionOptions fake;
    fake.providers = {"fake", "cpu"};
    expect_close(run(prepared, fake), run(prepared, {}), case_.tolerance, "fake device");
    if (case_.f64)
      expect_close(reference, run(make_model(case_, 1, DType::Float64), with_kernel("ref")), case_.tolerance,
                   "f64");
  }

 private:
  Case case_;
};

}  // namespace

void register_case_tests() {
  int number = 0;
  for (const Case& c : case_table().all()) {
    const std::string name = c.op + "_" + std::to_string(number++);
    testing::RegisterTest("Cases", name.c_str(), nullptr, c.name().c_str(), __FILE__, __LINE__,
                          [&c]() -> testing::Test* { return new CaseTest(c); });
  }
}

}  // namespace sardonyx::test
