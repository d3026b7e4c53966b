#include "providers/runtime/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <set>
#include <sstream>

namespace sardonyx {

bool log_enabled(const std::string& topic) {
  static const std::set<std::string> topics = [] {
    std::set<std::string> result;
    const char* value = std::getenv("SARDONYX_LOG");
    std::istringstream list(value ? value : "");
    for (std::string word; std::getline(list, word, ',');) result.insert(word);
    return result;
  }();
  return !topics.empty() && topics.count(topic) != 0;
}

void log_line(const std::string& text) {
  static const auto logger = [] {
    auto l = spdlog::stderr_logger_mt("sardonyx");
    l->set_pattern("%v");
    return l;
  }();
  logger->info(text);
}

}  // namespace sardonyx
