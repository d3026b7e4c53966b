// Diagnostics to stderr, chosen by the environment: SARDONYX_LOG=graph:simplified,dispatch
#pragma once

#include <string>

namespace sardonyx {

// Whether a topic ("dispatch", "graph:imported", "graph:all") is asked for.
bool log_enabled(const std::string& topic);
void log_line(const std::string& text);

}  // namespace sardonyx
