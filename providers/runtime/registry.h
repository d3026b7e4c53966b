// The execution providers that can be named in a session.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "providers/provider.h"

namespace sardonyx {

// Makes a provider known by name; a later registration of the same name replaces the earlier one.
void register_provider(const std::string& name, std::function<std::shared_ptr<Provider>()> make);
// InputError for an unknown name (the known ones are listed), ProviderError when it cannot start.
std::shared_ptr<Provider> find_provider(const std::string& name);
std::vector<std::string> provider_names();

}  // namespace sardonyx
