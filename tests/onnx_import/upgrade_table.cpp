// The upgrade tables against the operator schemas of the linked ONNX: a newer ONNX fails here until someone
// has decided what each new version of an operator means.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "onnx_import/upgrade/rules.h"
#include "ops/registry/schema.h"

namespace sardonyx {
namespace {

using Key = std::tuple<std::string, std::string, int>;

std::string to_string(const Key& key) {
  return std::get<0>(key) + ":" + std::get<1>(key) + "-" + std::to_string(std::get<2>(key));
}

// Every version of every operator but its first.
std::set<Key> schema_steps() {
  std::set<Key> steps;
  for (const OpSchemaInfo* schema : newest_schemas()) {
    const std::vector<int> versions = schema_versions(schema->domain, schema->name);
    for (size_t i = 1; i < versions.size(); ++i) steps.emplace(schema->domain, schema->name, versions[i]);
  }
  return steps;
}

std::string default_text(const AttributeSchema& attribute) {
  if (!attribute.initial) return attribute.required ? "required" : "none";
  if (const auto* value = std::get_if<float>(&*attribute.initial)) return std::to_string(*value);
  if (const auto* value = std::get_if<int64_t>(&*attribute.initial)) return std::to_string(*value);
  if (const auto* value = std::get_if<std::string>(&*attribute.initial)) return *value;
  return attribute_type_name(*attribute.initial);
}

void expect_kept(const std::vector<PortSchema>& before, const std::vector<PortSchema>& after, const std::string& what) {
  ASSERT_GE(after.size(), before.size()) << what;
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_TRUE(!before[i].optional || after[i].optional) << what << " " << before[i].name << " is no longer optional";
    EXPECT_EQ(before[i].variadic, after[i].variadic) << what << " " << before[i].name;
    for (const std::string& type : before[i].types)
      EXPECT_TRUE(std::count(after[i].types.begin(), after[i].types.end(), type))
          << what << " " << before[i].name << " no longer takes " << type;
  }
}

TEST(UpgradeTable, KnowsEveryVersion) {
  for (const Key& key : schema_steps())
    EXPECT_TRUE(upgrade::find_step(std::get<0>(key), std::get<1>(key), std::get<2>(key))) << to_string(key);
}

TEST(UpgradeTable, HasNothingTwiceAndNothingUnknown) {
  const std::set<Key> known = schema_steps();
  std::set<Key> seen;
  for (const upgrade::Step& step : upgrade::steps()) {
    const Key key{step.domain, step.op, step.version};
    EXPECT_TRUE(known.count(key)) << to_string(key);
    EXPECT_TRUE(seen.insert(key).second) << to_string(key);
  }
}

// A version without a rule loses no type, input, output or attribute, changes no default and adds nothing
// that a node has to have.
TEST(UpgradeTable, UnchangedVersionsOnlyWiden) {
  for (const upgrade::Step& step : upgrade::steps()) {
    if (step.rule) continue;
    const std::string what = to_string({step.domain, step.op, step.version});
    const OpSchemaInfo* before = find_schema(step.domain, step.op, step.version - 1);
    const OpSchemaInfo* after = find_schema(step.domain, step.op, step.version);
    ASSERT_TRUE(before && after) << what;
    expect_kept(before->inputs, after->inputs, what + " input");
    const bool one_kind_of_output = before->outputs.size() <= after->outputs.size();
    EXPECT_TRUE(one_kind_of_output) << what;
    if (one_kind_of_output) expect_kept(before->outputs, after->outputs, what + " output");
    for (size_t i = before->inputs.size(); i < after->inputs.size(); ++i)
      EXPECT_TRUE(after->inputs[i].optional) << what << " " << after->inputs[i].name;
    const auto find = [](const OpSchemaInfo* schema, const std::string& name) {
      return std::find_if(schema->attributes.begin(), schema->attributes.end(),
                          [&](const AttributeSchema& each) { return each.name == name; });
    };
    for (const AttributeSchema& attribute : before->attributes) {
      const auto now = find(after, attribute.name);
      if (now == after->attributes.end()) {
        ADD_FAILURE() << what << " lost attribute " << attribute.name;
        continue;
      }
      EXPECT_EQ(attribute.type, now->type) << what << " " << attribute.name;
      if (!attribute.required) EXPECT_EQ(default_text(attribute), default_text(*now)) << what << " " << attribute.name;
    }
    for (const AttributeSchema& attribute : after->attributes)
      if (find(before, attribute.name) == before->attributes.end())
        EXPECT_FALSE(attribute.required) << what << " " << attribute.name;
  }
}

}  // namespace
}  // namespace sardonyx
