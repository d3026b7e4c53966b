#include "training/arguments.h"

#include <algorithm>
#include <cctype>

namespace sardonyx {

namespace {
std::string describe_argument(const Argument& a) {
  if (const auto* v = std::get_if<bool>(&a)) return *v ? "true" : "false";
  if (const auto* v = std::get_if<int64_t>(&a)) return std::to_string(*v);
  if (const auto* v = std::get_if<double>(&a)) return std::to_string(*v);
  if (const auto* v = std::get_if<std::string>(&a)) return "'" + *v + "'";
  if (std::holds_alternative<Tensor>(a)) return "a tensor";
  if (std::holds_alternative<std::shared_ptr<const Model>>(a)) return "a model";
  return "None";
}

std::string plain(const std::string& name) {
  std::string text;
  for (const char c : name)
    if (c != '_' && c != '-') text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}
}  // namespace

const Argument* ArgumentReader::find(const std::string& name) {
  known_.insert(name);
  const auto it = arguments_.find(name);
  return it == arguments_.end() || std::holds_alternative<std::monostate>(it->second) ? nullptr : &it->second;
}

void ArgumentReader::refuse(const std::string& name, const std::string& expected,
                            const std::string& got) const {
  throw InputError(owner_ + ": argument '" + name + "'", expected, got);
}

bool ArgumentReader::given(const std::string& name) { return find(name) != nullptr; }

double ArgumentReader::number(const std::string& name, double initial) {
  const Argument* a = find(name);
  if (!a) return initial;
  if (const auto* v = std::get_if<double>(a)) return *v;
  if (const auto* v = std::get_if<int64_t>(a)) return static_cast<double>(*v);
  refuse(name, "a number", describe_argument(*a));
}

int64_t ArgumentReader::integer(const std::string& name, int64_t initial) {
  const Argument* a = find(name);
  if (!a) return initial;
  if (const auto* v = std::get_if<int64_t>(a)) return *v;
  refuse(name, "an integer", describe_argument(*a));
}

bool ArgumentReader::flag(const std::string& name, bool initial) {
  const Argument* a = find(name);
  if (!a) return initial;
  if (const auto* v = std::get_if<bool>(a)) return *v;
  refuse(name, "true or false", describe_argument(*a));
}

std::string ArgumentReader::word(const std::string& name, const std::string& initial,
                                 const std::vector<std::string>& allowed) {
  const Argument* a = find(name);
  if (!a) return initial;
  const auto* v = std::get_if<std::string>(a);
  if (v && std::find(allowed.begin(), allowed.end(), *v) != allowed.end()) return *v;
  std::string list;
  for (const std::string& word : allowed) list += (list.empty() ? "'" : ", '") + word + "'";
  refuse(name, "one of " + list, describe_argument(*a));
}

Tensor ArgumentReader::tensor(const std::string& name) {
  const Argument* a = find(name);
  if (!a) return {};
  if (const auto* v = std::get_if<Tensor>(a)) return *v;
  if (const auto* v = std::get_if<double>(a)) return Tensor::scalar(static_cast<float>(*v));
  if (const auto* v = std::get_if<int64_t>(a)) return Tensor::scalar(static_cast<float>(*v));
  refuse(name, "a tensor", describe_argument(*a));
}

GraphPtr ArgumentReader::graph(const std::string& name) {
  const Argument* a = find(name);
  const auto* model = a ? std::get_if<std::shared_ptr<const Model>>(a) : nullptr;
  return model ? (*model)->graph : nullptr;
}

void ArgumentReader::done() const {
  for (const auto& [name, value] : arguments_) {
    if (known_.count(name)) continue;
    std::string list;
    for (const std::string& word : known_) list += (list.empty() ? "'" : ", '") + word + "'";
    throw InputError(owner_ + ": argument", "one of " + list, "'" + name + "'");
  }
}

std::string canonical_name(const std::string& kind, const std::string& name,
                           const std::vector<std::string>& names, const std::string& suffix) {
  std::string list;
  for (const std::string& candidate : names) {
    if (plain(candidate) == plain(name) || plain(candidate) == plain(name + suffix)) return candidate;
    list += (list.empty() ? "" : ", ") + candidate;
  }
  throw InputError(kind, "one of " + list, "'" + name + "'");
}

}  // namespace sardonyx
