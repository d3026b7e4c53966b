// The registries against the schemas of the linked ONNX.
#include <gtest/gtest.h>

#include <set>

#include "graph/print.h"
#include "ops/registry/operator.h"
#include "ops/registry/schema.h"
#include "providers/runtime/executor.h"
#include "providers/runtime/registry.h"

namespace sardonyx::test {

namespace {

// What the attribute struct and the schema must agree on: an attribute without a default is absent in one
// and empty in the other.
std::string spelled(const std::optional<Attribute>& value) {
  if (!value) return "none";
  const std::string text = print_attribute(*value);
  return text == "[]" || text == "\"\"" ? "none" : text;
}

}  // namespace

TEST(Registry, AttributeStructsAgreeWithTheSchemas) {
  int compared = 0;
  for (const auto& [key, op] : OperatorRegistry::instance().all()) {
    if (!op.has_attribute_struct) continue;
    const OpSchemaInfo* schema = find_schema(op.domain, op.name, 0);
    ASSERT_NE(schema, nullptr) << op.name;
    for (const AttributeSpec& spec : op.attribute_specs) {
      SCOPED_TRACE(op.domain + "." + op.name + " " + spec.name);
      const auto found = std::find_if(schema->attributes.begin(), schema->attributes.end(),
                                      [&](const auto& a) { return a.name == spec.name; });
      ASSERT_NE(found, schema->attributes.end());
      if (spec.initial && found->initial) {
        EXPECT_STREQ(attribute_type_name(*spec.initial), attribute_type_name(*found->initial));
      }
      if (found->initial) EXPECT_EQ(spelled(spec.initial), spelled(found->initial));
      ++compared;
    }
  }
  EXPECT_GT(compared, 100);
}

TEST(Registry, EveryOperatorRuns) {
  // Constant is a value once imported; Gradient is made by training.
  const std::set<std::string> apart = {"Constant", "Gradient"};
  const auto cpu = find_provider("cpu");
  const auto host = make_host_provider();
  for (const OpSchemaInfo* schema : newest_schemas()) {
    if (schema->deprecated || apart.count(schema->name)) continue;
    const Operator* op = OperatorRegistry::instance().find(schema->domain, schema->name);
    const bool kernel = !cpu->kernels().find(schema->domain, schema->name).empty() ||
                        !host->kernels().find(schema->domain, schema->name).empty();
    EXPECT_TRUE(kernel || (op && op->decompose)) << schema->domain << "." << schema->name;
  }
}

TEST(Registry, ListsOfKernelsEndInRef) {
  for (const auto& [key, kernels] : find_provider("cpu")->kernels().all())
    EXPECT_EQ(kernels.back().name, "ref") << key.second;
}

}  // namespace sardonyx::test
