#include "api/checkpoint.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "api/safetensors.h"
#include "sardonyx/error.h"

namespace sardonyx {

namespace {

using Json = nlohmann::json;

constexpr const char* kNotes = "sardonyx";

std::string describe(const Tensor& tensor) {
  return std::string(dtype_name(tensor.dtype())) + to_string(tensor.dims());
}

}  // namespace

void save_checkpoint(const std::string& path, const CheckpointParts& parts) {
  Json notes = {{"numbers", Json::object()}, {"counters", Json::object()}};
  for (const auto& [name, number] : parts.numbers) notes["numbers"][name] = *number;
  for (const auto& [name, counter] : parts.counters) notes["counters"][name] = *counter.at;
  write_safetensors(path, {parts.tensors, {{kNotes, notes.dump()}}});
}

void load_checkpoint(const std::string& path, const CheckpointParts& parts) {
  const SafeTensors content = read_safetensors(path);
  const auto found = content.metadata.find(kNotes);
  if (found == content.metadata.end())
    throw FileError("file '" + path + "'", "a checkpoint of Sardonyx", "other safetensors");
  const auto refuse = [&](const std::string& name, const std::string& expected, const std::string& got) {
    InputError error("'" + name + "'", expected, got);
    error.add_file(path);
    throw error;
  };
  for (const auto& [name, tensor] : parts.tensors) {
    const auto it = content.tensors.find(name);
    if (it == content.tensors.end()) refuse(name, describe(tensor), "none");
    if (it->second.dtype() != tensor.dtype() || it->second.dims() != tensor.dims())
      refuse(name, describe(tensor), describe(it->second));
  }
  std::vector<std::pair<double*, double>> numbers;
  std::vector<std::pair<int64_t*, int64_t>> counters;
  try {
    const Json notes = Json::parse(found->second);
    for (const auto& [name, number] : parts.numbers)
      numbers.emplace_back(number, notes.at("numbers").at(name).get<double>());
    for (const auto& [name, counter] : parts.counters) {
      const auto value = notes.at("counters").at(name).get<int64_t>();
      if (value < 0 || value > counter.most)
        refuse(name, "0 to " + std::to_string(counter.most), std::to_string(value));
      counters.emplace_back(counter.at, value);
    }
  } catch (const Json::exception& e) {
    throw FileError("file '" + path + "'", "a checkpoint of these options", e.what());
  }
  for (auto [name, tensor] : parts.tensors)
    if (tensor.bytes() != 0)
      std::memcpy(tensor.mutable_data(), content.tensors.at(name).data(), tensor.bytes());
  for (const auto& [number, value] : numbers) *number = value;
  for (const auto& [counter, value] : counters) *counter = value;
}

}  // namespace sardonyx
