#include "providers/runtime/registry.h"

#include <map>
#include <mutex>

namespace sardonyx {

namespace {
std::mutex mutex;
std::map<std::string, std::function<std::shared_ptr<Provider>()>>& makers() {
  static std::map<std::string, std::function<std::shared_ptr<Provider>()>> map;
  return map;
}
}  // namespace

void register_provider(const std::string& name, std::function<std::shared_ptr<Provider>()> make) {
  std::lock_guard lock(mutex);
  makers()[name] = std::move(make);
}

std::shared_ptr<Provider> find_provider(const std::string& name) {
  std::function<std::shared_ptr<Provider>()> make;
  std::string known;
  {
    std::lock_guard lock(mutex);
    for (const auto& [n, f] : makers()) {
      known += (known.empty() ? "" : ", ") + n;
      if (n == name) make = f;
    }
  }
  if (!make) throw InputError("provider", "one of " + known, "'" + name + "'");
  return make();
}

std::vector<std::string> provider_names() {
  std::lock_guard lock(mutex);
  std::vector<std::string> names;
  for (const auto& [name, make] : makers()) names.push_back(name);
  return names;
}

}  // namespace sardonyx
