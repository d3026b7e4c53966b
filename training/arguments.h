// Reading the arguments of a loss or an optimizer.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "sardonyx/arguments.h"
#include "sardonyx/error.h"

namespace sardonyx {

// Every argument that is asked for has torch's name and default. `done` reports those that nobody asked for.
class ArgumentReader {
 public:
  ArgumentReader(std::string owner, const Arguments& arguments)
      : owner_(std::move(owner)), arguments_(arguments) {}

  double number(const std::string& name, double initial);
  int64_t integer(const std::string& name, int64_t initial);
  bool flag(const std::string& name, bool initial);
  std::string word(const std::string& name, const std::string& initial,
                   const std::vector<std::string>& allowed);
  // Undefined where it is left out or None.
  Tensor tensor(const std::string& name);
  // The graph of a model; null where something else is given, or nothing.
  GraphPtr graph(const std::string& name);
  bool given(const std::string& name);
  // InputError for an argument that does not exist, naming those that do.
  void done() const;
  [[noreturn]] void refuse(const std::string& name, const std::string& expected,
                           const std::string& got) const;

 private:
  const Argument* find(const std::string& name);
  std::string owner_;
  const Arguments& arguments_;
  std::set<std::string> known_;
};

// "CrossEntropyLoss" for "cross_entropy_loss", "CrossEntropyLoss" or "cross_entropy"; the name among `names`
// that means the same without case and underscores, with or without `suffix`. InputError lists the names.
std::string canonical_name(const std::string& kind, const std::string& name,
                           const std::vector<std::string>& names, const std::string& suffix = "");

}  // namespace sardonyx
