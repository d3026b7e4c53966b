// The test program. With --export-cases DIR it writes the case table as models and inputs instead, for other
// engines to run.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "ops/registry/operator.h"
#include "sardonyx/npy.h"
#include "sardonyx/tools.h"
#include "tests/support/cases.h"
#include "tests/support/fake_provider.h"

namespace sardonyx::test {
void register_case_tests();
void register_gradient_tests();

namespace {
int export_cases(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  std::ofstream names(folder / "cases.txt");
  int number = 0;
  for (const Case& c : case_table().all()) {
    const std::string stem = std::to_string(number++);
    Prepared prepared = make_model(c, 1);
    if (c.domain == kOwnDomain) prepared.model = in_standard_operators(prepared.model);
    convert_to_file(prepared.model, (folder / (stem + ".onnx")).string());
    std::vector<std::pair<std::string, Tensor>> inputs;
    for (const auto& [name, value] : prepared.feeds) inputs.emplace_back(name, value.tensor());
    write_npz((folder / (stem + ".npz")).string(), inputs);
    names << stem << "\t" << c.tolerance << "\t" << c.name() << "\n";
  }
  std::printf("%d cases\n", number);
  return names ? 0 : 1;
}
}  // namespace
}  // namespace sardonyx::test

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--export-cases") return sardonyx::test::export_cases(argv[2]);
  testing::InitGoogleTest(&argc, argv);
  sardonyx::test::register_fake_provider();
  sardonyx::test::register_case_tests();
  sardonyx::test::register_gradient_tests();
  return RUN_ALL_TESTS();
}
