#include "api/safetensors.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "api/files.h"
#include "sardonyx/error.h"

namespace sardonyx {

namespace {

using Json = nlohmann::json;

constexpr uint64_t kLongestHeader = 100'000'000;  // by the format
constexpr size_t kAlignment = 8;
constexpr const char* kMetadata = "__metadata__";

constexpr std::pair<const char*, DType> kDtypes[] = {
    {"F64", DType::Float64}, {"F32", DType::Float32}, {"F16", DType::Float16}, {"BF16", DType::BFloat16},
    {"I64", DType::Int64},   {"I32", DType::Int32},   {"I16", DType::Int16},   {"I8", DType::Int8},
    {"U64", DType::UInt64},  {"U32", DType::UInt32},  {"U16", DType::UInt16},  {"U8", DType::UInt8},
    {"BOOL", DType::Bool}};

const char* word_of(DType dtype) {
  for (const auto& [word, known] : kDtypes)
    if (known == dtype) return word;
  throw UnsupportedError("safetensors", "a dtype that the format has", dtype_name(dtype));
}

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(path, std::ios::binary) {
    std::error_code error;
    length_ = std::filesystem::file_size(path, error);
    if (error || !file_)
      throw FileError("file '" + path + "'", "a readable file",
                      error ? error.message() : std::strerror(errno));
  }

  SafeTensors read() {
    uint64_t header_length = 0;
    if (length_ < sizeof(header_length)) refuse("a file that is too short");
    get(&header_length, sizeof(header_length));
    data_ = sizeof(header_length) + header_length;
    if (header_length > kLongestHeader || data_ > length_) refuse("a damaged header");
    std::string text(header_length, '\0');
    get(text.data(), text.size());
    SafeTensors content;
    try {
      const Json header = Json::parse(text);
      for (const auto& [name, entry] : header.items()) {
        if (name == kMetadata)
          content.metadata = entry.get<std::map<std::string, std::string>>();
        else
          content.tensors.emplace(name, tensor(name, entry));
      }
    } catch (const Json::exception& e) {
      refuse(std::string("a damaged header: ") + e.what());
    }
    return content;
  }

 private:
  [[noreturn]] void refuse(const std::string& got) const {
    throw FileError("file '" + path_ + "'", "a complete file of safetensors", got);
  }
  void get(void* to, size_t bytes) {
    if (bytes != 0 && !file_.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes)))
      refuse("a file that was cut off");
  }

  Tensor tensor(const std::string& name, const Json& entry) {
    const std::string word = entry.at("dtype").get<std::string>();
    DType dtype = DType::Undefined;
    for (const auto& [known, type] : kDtypes)
      if (word == known) dtype = type;
    if (dtype == DType::Undefined) refuse("'" + name + "' of dtype " + word);
    const Dims dims = entry.at("shape").get<Dims>();
    const auto offsets = entry.at("data_offsets").get<std::vector<uint64_t>>();
    uint64_t elements = 1;
    for (const int64_t dim : dims)
      if (dim < 0 || __builtin_mul_overflow(elements, static_cast<uint64_t>(dim), &elements))
        refuse("'" + name + "' of dims " + to_string(dims));
    uint64_t bytes = 0;
    if (offsets.size() != 2 || offsets[1] < offsets[0] || offsets[1] > length_ - data_ ||
        __builtin_mul_overflow(elements, element_size(dtype), &bytes) || bytes != offsets[1] - offsets[0])
      refuse("'" + name + "' with offsets that do not fit");
    // Tensors that share bytes would be more than the file.
    taken_ += bytes;
    if (taken_ > length_) refuse("tensors that overlap");
    Tensor result(dtype, dims);
    file_.seekg(static_cast<std::streamoff>(data_ + offsets[0]));
    get(result.mutable_data(), bytes);
    return result;
  }

  std::string path_;
  std::ifstream file_;
  uint64_t length_ = 0, data_ = 0, taken_ = 0;
};

}  // namespace

void write_safetensors(const std::string& path, const SafeTensors& content) {
  Json header = Json::object();
  if (!content.metadata.empty()) header[kMetadata] = content.metadata;
  size_t at = 0;
  for (const auto& [name, tensor] : content.tensors) {
    header[name] = {{"dtype", word_of(tensor.dtype())},
                    {"shape", tensor.dims()},
                    {"data_offsets", {at, at + tensor.bytes()}}};
    at += tensor.bytes();
  }
  std::string text = header.dump();
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  const uint64_t length = text.size();
  std::vector<std::string_view> parts = {{reinterpret_cast<const char*>(&length), sizeof(length)}, text};
  for (const auto& [name, tensor] : content.tensors)
    parts.emplace_back(static_cast<const char*>(tensor.data()), tensor.bytes());
  write_file(path, parts);
}

SafeTensors read_safetensors(const std::string& path) { return Reader(path).read(); }

}  // namespace sardonyx
