#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>

#include "cli.h"
#include "sardonyx/npy.h"
#include "sardonyx/tools.h"

namespace sardonyx::cli {

void SessionArguments::add_to(CLI::App& app) {
  app.add_option("--provider", providers, "Execution providers in order of preference")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--threads", threads, "Threads; 0 takes the CPUs this process may use")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option(
         "--precision", precision,
         "highest: f32 as f32; high: the same on this provider; medium: bf16 where the CPU multiplies it")
      ->capture_default_str();
  app.add_option("--optimize", optimize, "Graph rewrites before the run")
      ->check(CLI::IsMember({"all", "none"}))
      ->capture_default_str();
  app.add_option("--disable-pass", disabled_passes,
                 fmt::format("Passes left out: {}", fmt::join(pass_names(), ", ")))
      ->delimiter(',');
  app.add_option("--dim", free_dimensions, "Fixes a symbolic dimension: name=size");
  app.add_option("--prefer-kernel", prefer_kernel,
                 "Kernels of this name are asked first (ref, simd, onednn)");
}

SessionOptions SessionArguments::options() const {
  SessionOptions options;
  options.providers = providers;
  options.threads = threads;
  options.precision = precision;
  options.optimize = optimize;
  options.disabled_passes = disabled_passes;
  options.prefer_kernel = prefer_kernel;
  for (const auto& text : free_dimensions) {
    const auto [name, size] = split_assignment(text, "--dim");
    const Dims dims = parse_dims(size);
    if (dims.size() != 1) throw InputError("--dim " + text, "name=size", size);
    options.free_dimensions[name] = dims[0];
  }
  return options;
}

void FeedArguments::add_to(CLI::App& app) {
  app.add_option("-i,--input", inputs,
                 "name=FILE (.npy, .npz[:entry], .pb, anything else as raw bytes), name=random or "
                 "name=zeros; inputs left out are random");
  app.add_option("-s,--shape", shapes, "name=1,3,224,224: the shape of a random, zero or raw input");
  app.add_option("--seed", seed, "Of random inputs")->capture_default_str();
}

std::pair<std::string, std::string> split_assignment(const std::string& text, const std::string& option) {
  const size_t at = text.find('=');
  if (at == std::string::npos || at == 0) throw InputError(option + " " + text, "name=value", "no '='");
  return {text.substr(0, at), text.substr(at + 1)};
}

Arguments named_arguments(const std::vector<std::string>& texts, const std::string& option) {
  Arguments result;
  for (const std::string& text : texts) {
    const auto [name, value] = split_assignment(text, option);
    char* end = nullptr;
    const double number = std::strtod(value.c_str(), &end);
    if (value == "true" || value == "false")
      result[name] = value == "true";
    else if (value.ends_with(".onnx"))
      result[name] = LoadedModel::from_file(value).get();
    else if (!value.empty() && *end == '\0' && value.find_first_of(".eEnN") == std::string::npos)
      result[name] = static_cast<int64_t>(number);
    else if (!value.empty() && *end == '\0')
      result[name] = number;
    else
      result[name] = value;
  }
  return result;
}

LossOptions loss_option(const std::string& loss, const std::vector<std::string>& arguments,
                        const std::vector<std::string>& predictions) {
  LossOptions option{{loss, named_arguments(arguments, "--loss-argument")}, 1, predictions, std::nullopt};
  if (!loss.ends_with(".onnx")) return option;
  if (!arguments.empty()) throw InputError("--loss-argument", "none for a model", arguments[0]);
  option.graph = LoadedModel::from_file(loss);
  return option;
}

Dims parse_dims(const std::string& text) {
  Dims dims;
  std::istringstream list(text);
  for (std::string word; std::getline(list, word, ',');) {
    size_t used = 0;
    int64_t value = -1;
    try {
      value = std::stoll(word, &used);
    } catch (const std::exception&) {
    }
    if (used != word.size() || value < 0)
      throw InputError("dimensions '" + text + "'", "numbers of at least 0, separated by commas",
                       "'" + word + "'");
    dims.push_back(value);
  }
  return dims;
}

namespace {

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw FileError("file '" + path + "'", "a readable file", std::strerror(errno));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

Tensor random_tensor(DType dtype, const Dims& dims, std::mt19937_64& random) {
  Tensor tensor = Tensor::zeros(dtype, dims);
  std::normal_distribution<float> normal;
  const auto fill = [&](auto* data, auto&& draw) {
    for (int64_t i = 0; i < tensor.size(); ++i) data[i] = static_cast<std::decay_t<decltype(*data)>>(draw());
  };
  const auto small = [&] { return static_cast<int>(random() % 10); };
  switch (dtype) {
    case DType::Float32:
      fill(tensor.mutable_data<float>(), [&] { return normal(random); });
      break;
    case DType::Float64:
      fill(tensor.mutable_data<double>(), [&] { return normal(random); });
      break;
    case DType::Float16:
      fill(tensor.mutable_data<Half>(), [&] { return normal(random); });
      break;
    case DType::BFloat16:
      fill(tensor.mutable_data<BFloat16>(), [&] { return normal(random); });
      break;
    case DType::Int64:
      fill(tensor.mutable_data<int64_t>(), small);
      break;
    case DType::Int32:
      fill(tensor.mutable_data<int32_t>(), small);
      break;
    case DType::Int16:
      fill(tensor.mutable_data<int16_t>(), small);
      break;
    case DType::UInt16:
      fill(tensor.mutable_data<uint16_t>(), small);
      break;
    case DType::UInt32:
      fill(tensor.mutable_data<uint32_t>(), small);
      break;
    case DType::UInt64:
      fill(tensor.mutable_data<uint64_t>(), small);
      break;
    case DType::Int8:
      fill(tensor.mutable_data<int8_t>(), [&] { return static_cast<int>(random() % 256) - 128; });
      break;
    case DType::UInt8:
      fill(tensor.mutable_data<uint8_t>(), [&] { return static_cast<int>(random() % 256); });
      break;
    case DType::Bool:
      fill(tensor.mutable_data<bool>(), [&] { return random() % 2 == 0; });
      break;
    case DType::String:
      fill(tensor.mutable_data<std::string>(), [&] { return "s" + std::to_string(small()); });
      break;
    default:
      throw UnsupportedError("random input", "an ordinary type", dtype_name(dtype));
  }
  return tensor;
}

}  // namespace

Value read_value(const std::string& path, const std::string& kind) {
  if (ends_with(path, ".npy")) return read_npy(path);
  const size_t colon = path.rfind(".npz:");
  if (ends_with(path, ".npz") || colon != std::string::npos) {
    const std::string file = colon == std::string::npos ? path : path.substr(0, colon + 4);
    const auto entries = read_npz(file);
    const std::string entry = colon == std::string::npos ? "" : path.substr(colon + 5);
    if (entry.empty() && entries.size() == 1) return entries.begin()->second;
    if (const auto it = entries.find(entry); it != entries.end()) return it->second;
    std::string names;
    for (const auto& [name, tensor] : entries) names += (names.empty() ? "" : ", ") + name;
    throw InputError("file '" + file + "'", "an entry among " + names,
                     entry.empty() ? "no choice (write file.npz:entry)" : "'" + entry + "'");
  }
  const std::string bytes = read_bytes(path);
  return value_from_proto(bytes.data(), bytes.size(), kind);
}

namespace {
// InputError unless the session has an input of this name.
void check_name(const std::string& option, const std::string& name, const Session& session) {
  std::vector<std::string> names;
  for (const auto& input : session.inputs()) names.push_back("'" + input.name + "'");
  if (std::find(names.begin(), names.end(), "'" + name + "'") != names.end()) return;
  throw InputError(
      option,
      names.empty() ? "none: the model has no inputs" : fmt::format("one of {}", fmt::join(names, ", ")),
      "'" + name + "'");
}
}  // namespace

Feeds FeedArguments::make(const Session& session) const {
  std::map<std::string, std::string> files;
  std::map<std::string, Dims> dims_of;
  for (const auto& text : inputs) {
    const auto [name, file] = split_assignment(text, "--input");
    files[name] = file;
  }
  for (const auto& text : shapes) {
    const auto [name, dims] = split_assignment(text, "--shape");
    dims_of[name] = parse_dims(dims);
  }
  for (const auto& [name, file] : files) check_name("--input", name, session);
  for (const auto& [name, dims] : dims_of) check_name("--shape", name, session);
  std::mt19937_64 random(seed + 1);
  Feeds feeds;
  for (const auto& input : session.inputs()) {
    const auto file = files.find(input.name);
    if (file == files.end() && input.has_default) continue;
    const std::string source = file == files.end() ? "random" : file->second;
    const bool made = source == "random" || source == "zeros";
    const bool raw = !made && !ends_with(source, ".npy") && !ends_with(source, ".pb") &&
                     source.find(".npz") == std::string::npos;
    if (!made && !raw) {
      const std::string kind = input.type.rfind("seq(", 0) == 0        ? "sequence"
                               : input.type.rfind("optional(", 0) == 0 ? "optional"
                               : input.type.rfind("map(", 0) == 0      ? "map"
                                                                       : "tensor";
      feeds[input.name] = read_value(source, kind);
      continue;
    }
    Dims dims;
    if (const auto it = dims_of.find(input.name); it != dims_of.end())
      dims = it->second;
    else if (!input.has_shape)
      throw InputError("input '" + input.name + "'", "--shape " + input.name + "=...",
                       "an input of unknown rank");
    else
      for (const auto& d : input.shape) {
        if (d.value < 0)
          throw InputError(
              "input '" + input.name + "'",
              "--shape " + input.name + "=... or --dim " + (d.name.empty() ? "..." : d.name) + "=size",
              "a dynamic dimension" + (d.name.empty() ? "" : " '" + d.name + "'"));
        dims.push_back(d.value);
      }
    if (raw) {
      const std::string bytes = read_bytes(source);
      Tensor tensor = Tensor::zeros(input.dtype, dims);
      if (tensor.bytes() != bytes.size() || input.dtype == DType::String)
        throw InputError("raw file '" + source + "' for " + input.type + " " + to_string(dims),
                         std::to_string(tensor.bytes()) + " bytes", std::to_string(bytes.size()));
      std::memcpy(tensor.mutable_data(), bytes.data(), bytes.size());
      feeds[input.name] = tensor;
    } else if (input.dtype == DType::Undefined) {
      throw InputError("input '" + input.name + "'", "a file for " + input.type, "none");
    } else {
      feeds[input.name] =
          source == "zeros" ? Tensor::zeros(input.dtype, dims) : random_tensor(input.dtype, dims, random);
    }
  }
  return feeds;
}

std::string summarize(const Value& value) {
  if (value.is_sequence()) return "sequence of " + std::to_string(value.sequence().items.size());
  if (!value.is_tensor()) return value.kind_name();
  const Tensor& tensor = value.tensor();
  std::string text = std::string(dtype_name(tensor.dtype())) + to_string(tensor.dims());
  if (tensor.size() == 0) return text;
  if (tensor.dtype() == DType::String)
    return text + " \"" + tensor.data<std::string>()[0] + "\"" + (tensor.size() > 1 ? " ..." : "");
  if (is_complex(tensor.dtype())) return text;
  double low = std::numeric_limits<double>::infinity(), high = -low, sum = 0;
  int64_t odd = 0;
  for (const double v : tensor.to_doubles()) {
    if (!std::isfinite(v)) {
      ++odd;
      continue;
    }
    low = std::min(low, v);
    high = std::max(high, v);
    sum += v;
  }
  std::ostringstream out;
  out << text;
  if (odd < tensor.size())
    out << " min " << low << " max " << high << " mean " << sum / static_cast<double>(tensor.size() - odd);
  if (odd > 0) out << " (" << odd << " NaN or infinite)";
  return out.str();
}

Difference compare(const Value& got, const Value& expected) {
  Difference result;
  const auto differ = [&](std::string why) {
    result.comparable = false;
    result.why = std::move(why);
    return result;
  };
  if (std::string(got.kind_name()) != expected.kind_name())
    return differ(std::string("kind: ") + got.kind_name() + " instead of " + expected.kind_name());
  if (got.is_sequence()) {
    const auto& a = got.sequence().items;
    const auto& b = expected.sequence().items;
    if (a.size() != b.size())
      return differ("length: " + std::to_string(a.size()) + " instead of " + std::to_string(b.size()));
    for (size_t i = 0; i < a.size(); ++i) {
      const Difference item = compare(a[i], b[i]);
      if (!item.comparable) return item;
      if (item.relative > result.relative || std::isnan(item.relative)) result = item;
    }
    return result;
  }
  if (!got.is_tensor()) return result;
  const Tensor& a = got.tensor();
  const Tensor& b = expected.tensor();
  if (a.dtype() != b.dtype())
    return differ(std::string("type: ") + dtype_name(a.dtype()) + " instead of " + dtype_name(b.dtype()));
  if (a.dims() != b.dims())
    return differ("shape: " + to_string(a.dims()) + " instead of " + to_string(b.dims()));
  if (a.dtype() == DType::String) {
    for (int64_t i = 0; i < a.size(); ++i)
      if (a.data<std::string>()[i] != b.data<std::string>()[i])
        return differ("element " + std::to_string(i) + ": \"" + a.data<std::string>()[i] +
                      "\" instead of \"" + b.data<std::string>()[i] + "\"");
    return result;
  }
  std::vector<double> x, y;
  if (is_complex(a.dtype())) {
    const DType part = a.dtype() == DType::Complex64 ? DType::Float32 : DType::Float64;
    x = Tensor(part, {2 * a.size()}, a.buffer(), a.offset()).to_doubles();
    y = Tensor(part, {2 * b.size()}, b.buffer(), b.offset()).to_doubles();
  } else {
    x = a.to_doubles();
    y = b.to_doubles();
  }
  double scale = 1e-3;
  for (const double v : y)
    if (std::isfinite(v)) scale = std::max(scale, std::abs(v));
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    const double d = std::isfinite(x[i]) && std::isfinite(y[i]) ? std::abs(x[i] - y[i])
                                                                : std::numeric_limits<double>::infinity();
    if (d > result.largest) {
      result.largest = d;
      result.at = static_cast<int64_t>(i);
    }
  }
  result.relative = result.largest / scale;
  return result;
}

}  // namespace sardonyx::cli
