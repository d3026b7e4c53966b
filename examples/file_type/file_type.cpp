// Names the type of files by their content, with the Magika model: file_type FILE...
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <variant>

#include "../common/program.h"

namespace examples {
namespace {

constexpr size_t kBatch = 64;

bool is_space(char c) { return std::strchr(" \t\n\r\v\f", c) && c != '\0'; }

// Strict: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u; };
    const unsigned lead = byte(i);
    const size_t more = lead < 0x80                   ? 0
                        : lead >= 0xC2 && lead < 0xE0 ? 1
                        : lead >= 0xE0 && lead < 0xF0 ? 2
                        : lead >= 0xF0 && lead < 0xF5 ? 3
                                                      : 4;
    if (more == 4) return false;
    for (size_t k = 1; k <= more; ++k)
      if ((byte(i + k) & 0xC0) != 0x80) return false;
    const unsigned second = byte(i + 1);
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second >= 0xA0) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second >= 0x90)) {
      return false;
    }
    i += 1 + more;
  }
  return true;
}

struct FileType {
  std::string name;
  double score = 1;
};
// What a file is without asking the model, or the model's input for it.
using Features = std::variant<FileType, std::vector<int32_t>>;

// The model, and the rules around it that come with it in its configuration.
class FileTypes {
 public:
  explicit FileTypes(const CommonOptions& options)
      : session_(open_session(options, "magika", "model.onnx")),
        config_(nlohmann::json::parse(read_file(model_file(options, "magika", "config.min.json")))),
        kinds_(nlohmann::json::parse(read_file(model_file(options, "magika", "content_types_kb.min.json")))),
        beginning_(config_.at("beg_size").get<size_t>()),
        ending_(config_.at("end_size").get<size_t>()),
        block_(config_.at("block_size").get<size_t>()),
        least_(config_.at("min_file_size_for_dl").get<size_t>()) {}

  // std::runtime_error when the file cannot be read.
  Features features(const std::string& path) const {
    if (std::filesystem::is_directory(path)) return FileType{"directory"};
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) throw std::runtime_error(std::strerror(errno));
    const size_t size = static_cast<size_t>(file.tellg());
    if (size == 0) return FileType{"empty"};
    std::string first(std::min(size, block_), '\0'), last = first;
    file.seekg(0).read(first.data(), static_cast<std::streamsize>(first.size()));
    file.seekg(static_cast<std::streamoff>(size - last.size()))
        .read(last.data(), static_cast<std::streamsize>(last.size()));
    if (!file) throw std::runtime_error(std::strerror(errno));

    const auto begin = std::find_if_not(first.begin(), first.end(), is_space);
    const auto beginning_size = std::min(beginning_, static_cast<size_t>(first.end() - begin));
    // The model is not asked about fewer bytes than it was trained for.
    if (std::min(size, beginning_size) < least_) return FileType{is_utf8(first) ? "txt" : "unknown"};
    const auto end = std::find_if_not(last.rbegin(), last.rend(), is_space).base();
    const auto ending_size = std::min(ending_, static_cast<size_t>(end - last.begin()));
    std::vector<int32_t> row(beginning_ + ending_, config_.at("padding_token").get<int32_t>());
    auto to_token = [](char c) { return static_cast<int32_t>(static_cast<unsigned char>(c)); };
    std::transform(begin, begin + static_cast<std::ptrdiff_t>(beginning_size), row.begin(), to_token);
    std::transform(end - static_cast<std::ptrdiff_t>(ending_size), end,
                   row.end() - static_cast<std::ptrdiff_t>(ending_size), to_token);
    return row;
  }

  // One type for each row of features.
  std::vector<FileType> classify(const std::vector<std::vector<int32_t>>& rows) {
    std::vector<FileType> types;
    for (size_t start = 0; start < rows.size(); start += kBatch) {
      const size_t count = std::min(kBatch, rows.size() - start), width = rows[start].size();
      sardonyx::Tensor x(sardonyx::DType::Int32, {static_cast<int64_t>(count), static_cast<int64_t>(width)});
      for (size_t i = 0; i < count; ++i)
        std::copy(rows[start + i].begin(), rows[start + i].end(), x.mutable_data<int32_t>() + i * width);
      const auto outputs = session_.run({{session_.inputs()[0].name, x}});
      const sardonyx::Tensor& scores = outputs[0].tensor();
      for (size_t i = 0; i < count; ++i)
        types.push_back(
            decide(scores.data<float>() + static_cast<int64_t>(i) * scores.dim(1), scores.dim(1)));
    }
    return types;
  }

  // A property of a type ("description", "mime_type"), empty where it is not known.
  std::string property(const std::string& name, const char* key) const {
    const auto kind = kinds_.find(name);
    if (kind == kinds_.end() || !kind->contains(key) || !kind->at(key).is_string()) return "";
    return kind->at(key).get<std::string>();
  }

 private:
  FileType decide(const float* scores, int64_t count) const {
    const int64_t best = std::max_element(scores, scores + count) - scores;
    const std::string label =
        config_.at("target_labels_space").at(static_cast<size_t>(best)).get<std::string>();
    const double least =
        config_.at("thresholds").value(label, config_.at("medium_confidence_threshold").get<double>());
    const std::string name = config_.at("overwrite_map").value(label, label);
    if (scores[best] >= least) return {name, scores[best]};
    // Too unsure to say more than text or not text.
    return {kinds_.at(name).at("is_text").get<bool>() ? "txt" : "unknown", scores[best]};
  }

  sardonyx::Session session_;
  nlohmann::json config_, kinds_;
  size_t beginning_, ending_, block_, least_;
};

}  // namespace
}  // namespace examples

int main(int argc, char** argv) {
  using namespace examples;
  CLI::App app("Names the type of files by their content.");
  CommonOptions common;
  std::vector<std::string> files;
  app.add_option("files", files, "the files")->required()->type_name("FILE");
  add_common_options(app, common);

  return run(app, argc, argv, [&]() -> int {
    FileTypes model(common);
    std::vector<std::pair<std::string, FileType>> results;
    std::vector<std::vector<int32_t>> rows;
    std::vector<size_t> places;  // of the rows in the results
    int status = kOk;
    for (const std::string& path : files) {
      try {
        Features found = model.features(path);
        if (auto* row = std::get_if<std::vector<int32_t>>(&found)) {
          places.push_back(results.size());
          rows.push_back(std::move(*row));
          results.emplace_back(path, FileType{});
        } else {
          results.emplace_back(path, std::get<FileType>(found));
        }
      } catch (const std::exception& error) {
        std::fprintf(stderr, "file_type: %s: %s\n", path.c_str(), error.what());
        status = kBadInput;
      }
    }
    const std::vector<FileType> types = model.classify(rows);
    for (size_t i = 0; i < types.size(); ++i) results[places[i]].second = types[i];

    nlohmann::json report = nlohmann::json::array();
    size_t width = 0;
    for (const auto& [path, type] : results) width = std::max(width, path.size());
    for (const auto& [path, type] : results) {
      std::string description = model.property(type.name, "description");
      if (description.empty()) description = type.name;
      if (common.json) {
        report.push_back({{"path", path},
                          {"type", type.name},
                          {"score", type.score},
                          {"description", description},
                          {"mime_type", model.property(type.name, "mime_type")}});
      } else {
        std::printf("%-*s  %-12s %.3f  %s\n", static_cast<int>(width), path.c_str(), type.name.c_str(),
                    type.score, description.c_str());
      }
    }
    if (common.json) print_json(report);
    return status;
  });
}
