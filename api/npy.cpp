#include "sardonyx/npy.h"

#include <unistd.h>
#include <zlib.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "api/files.h"
#include "graph/shape.h"

namespace sardonyx {

namespace {

template <typename T>
T little(const std::string& bytes, size_t at) {
  T value;
  if (at > bytes.size() || bytes.size() - at < sizeof(T))
    throw FileError("npz file", "a complete archive", "a truncated one");
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

struct NumpyType {
  const char* text;
  DType dtype;
};
constexpr NumpyType kTypes[] = {
    {"<f4", DType::Float32},   {"<f8", DType::Float64},     {"<f2", DType::Float16},
    {"|i1", DType::Int8},      {"<i2", DType::Int16},       {"<i4", DType::Int32},
    {"<i8", DType::Int64},     {"|u1", DType::UInt8},       {"<u2", DType::UInt16},
    {"<u4", DType::UInt32},    {"<u8", DType::UInt64},      {"|b1", DType::Bool},
    {"<c8", DType::Complex64}, {"<c16", DType::Complex128}, {"<V2", DType::BFloat16},
    {"|V2", DType::BFloat16},
};

// The text between `open` and `close` after 'key':.
std::string header_field(const std::string& header, const std::string& key, char open, char close) {
  size_t at = header.find("'" + key + "'");
  if (at == std::string::npos) at = header.find("\"" + key + "\"");
  if (at != std::string::npos) at = header.find(':', at);
  if (at == std::string::npos) throw FileError("npy header", "the key '" + key + "'", header.substr(0, 80));
  const size_t begin = header.find(open, at);
  const size_t end = begin == std::string::npos ? begin : header.find(close, begin + 1);
  if (end == std::string::npos)
    throw FileError("npy header", "a value for '" + key + "'", header.substr(0, 80));
  return header.substr(begin + 1, end - begin - 1);
}

std::string utf8_of(const char* data, size_t characters) {
  std::string text;
  for (size_t i = 0; i < characters; ++i) {
    uint32_t c;
    std::memcpy(&c, data + 4 * i, 4);
    if (c == 0) break;
    if (c < 0x80)
      text += static_cast<char>(c);
    else if (c < 0x800)
      text += {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
    else if (c < 0x10000)
      text += {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
               static_cast<char>(0x80 | (c & 63))};
    else
      text += {static_cast<char>(0xf0 | (c >> 18 & 7)), static_cast<char>(0x80 | (c >> 12 & 63)),
               static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
  }
  return text;
}

std::vector<uint32_t> characters_of(const std::string& text) {
  std::vector<uint32_t> result;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t c = length == 1 ? lead : lead & (0xff >> (length + 1));
    for (size_t k = 1; k < length && i + k < text.size(); ++k)
      c = c << 6 | (static_cast<unsigned char>(text[i + k]) & 63);
    result.push_back(c);
    i += length;
  }
  return result;
}

Tensor transposed(const Tensor& tensor, const Dims& dims) {
  // `tensor` holds the elements in Fortran order.
  Tensor result(tensor.dtype(), dims);
  const size_t size = element_size(tensor.dtype());
  Dims index(dims.size(), 0);
  for (int64_t i = 0; i < tensor.size(); ++i) {
    int64_t from = 0, stride = 1;
    for (size_t d = 0; d < dims.size(); ++d) {
      from += index[d] * stride;
      stride *= dims[d];
    }
    std::memcpy(static_cast<char*>(result.mutable_data()) + static_cast<size_t>(i) * size,
                static_cast<const char*>(tensor.data()) + static_cast<size_t>(from) * size, size);
    for (size_t d = dims.size(); d-- > 0 && ++index[d] == dims[d];) index[d] = 0;
  }
  return result;
}

Tensor parse_npy(const std::string& bytes, const std::string& name) {
  const auto damaged = [&](const char* what) {
    return FileError("npy file '" + name + "'", "a NumPy array file", what);
  };
  if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0) throw damaged("something else");
  const int major = static_cast<unsigned char>(bytes[6]);
  const size_t header_at = major == 1 ? 10 : 12;
  const size_t header_size = major == 1 ? little<uint16_t>(bytes, 8) : little<uint32_t>(bytes, 8);
  if (bytes.size() < header_at || bytes.size() - header_at < header_size) throw damaged("a truncated header");
  const std::string header = bytes.substr(header_at, header_size);
  std::string descr = header_field(header, "descr", '\'', '\'');
  const bool fortran = header_field(header, "fortran_order", ' ', ',').find("True") != std::string::npos;
  Dims dims;
  std::istringstream list(header_field(header, "shape", '(', ')'));
  for (std::string word; std::getline(list, word, ',');) {
    if (word.find_first_of("0123456789") == std::string::npos) continue;
    dims.push_back(std::strtoll(word.c_str(), nullptr, 10));
  }
  const size_t data_at = header_at + header_size;
  const int64_t count = element_count(dims);
  if (descr.size() > 2 && (descr.compare(0, 2, "<U") == 0 || descr.compare(0, 2, "|S") == 0)) {
    const bool unicode = descr[1] == 'U';
    const int64_t width =
        checked_mul(std::strtoll(descr.c_str() + 2, nullptr, 10), unicode ? 4 : 1, "bytes of a string");
    // Strings without a width would claim memory that the file does not have to pay for.
    if (width <= 0 ||
        static_cast<uint64_t>(checked_mul(count, width, "bytes of a string array")) > bytes.size() - data_at)
      throw damaged("too few bytes");
    Tensor tensor(DType::String, dims);
    for (int64_t i = 0; i < count; ++i) {
      const char* at = bytes.data() + data_at + static_cast<size_t>(i * width);
      tensor.mutable_data<std::string>()[i] = unicode
                                                  ? utf8_of(at, static_cast<size_t>(width / 4))
                                                  : std::string(at, strnlen(at, static_cast<size_t>(width)));
    }
    return tensor;
  }
  DType dtype = DType::Undefined;
  for (const auto& type : kTypes)
    if (descr == type.text) dtype = type.dtype;
  if (dtype == DType::Undefined)
    throw UnsupportedError("npy file '" + name + "'", "a plain little-endian type", descr);
  const int64_t size = checked_mul(count, static_cast<int64_t>(element_size(dtype)), "bytes of an array");
  if (static_cast<uint64_t>(size) > bytes.size() - data_at) throw damaged("too few bytes");
  Tensor tensor(dtype, dims);
  std::memcpy(tensor.mutable_data(), bytes.data() + data_at, static_cast<size_t>(size));
  return fortran && dims.size() > 1 ? transposed(tensor, dims) : tensor;
}

std::string format_npy(const Tensor& tensor) {
  std::string descr, data;
  if (tensor.dtype() == DType::String) {
    size_t width = 1;
    std::vector<std::vector<uint32_t>> items;
    for (int64_t i = 0; i < tensor.size(); ++i) {
      items.push_back(characters_of(tensor.data<std::string>()[i]));
      width = std::max(width, items.back().size());
    }
    descr = "<U" + std::to_string(width);
    for (auto& item : items) {
      item.resize(width, 0);
      data.append(reinterpret_cast<const char*>(item.data()), 4 * width);
    }
  } else {
    for (const auto& type : kTypes)
      if (type.dtype == tensor.dtype() && descr.empty()) descr = type.text;
    if (descr.empty()) descr = "|V" + std::to_string(element_size(tensor.dtype()));
    data.assign(static_cast<const char*>(tensor.data()), tensor.bytes());
  }
  std::string shape;
  for (const int64_t d : tensor.dims()) shape += std::to_string(d) + ",";
  std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  put(out, static_cast<uint16_t>(header.size()));
  return out + header + data;
}

std::string inflate_raw(const std::string& packed, size_t size, const std::string& name) {
  std::string out(size, '\0');
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
    throw FileError("npz entry '" + name + "'", "zlib to start", "an error");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int rc = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  if (rc != Z_STREAM_END || stream.total_out != size)
    throw FileError("npz entry '" + name + "'", "deflated data", "damaged data");
  return out;
}

}  // namespace

Tensor read_npy(const std::string& path) { return parse_npy(read_file(path), path); }
void write_npy(const std::string& path, const Tensor& tensor) { write_file(path, {format_npy(tensor)}); }

std::map<std::string, Tensor> read_npz(const std::string& path) {
  const std::string bytes = read_file(path);
  const size_t end = bytes.rfind("PK\x05\x06");
  if (end == std::string::npos) throw FileError("npz file '" + path + "'", "a zip archive", "something else");
  const size_t count = little<uint16_t>(bytes, end + 10);
  size_t at = little<uint32_t>(bytes, end + 16);
  std::map<std::string, Tensor> result;
  for (size_t i = 0; i < count; ++i) {
    if (little<uint32_t>(bytes, at) != 0x02014b50)
      throw FileError("npz file '" + path + "'", "a directory entry", "damaged data");
    const auto method = little<uint16_t>(bytes, at + 10);
    size_t packed_size = little<uint32_t>(bytes, at + 20), size = little<uint32_t>(bytes, at + 24);
    const size_t name_size = little<uint16_t>(bytes, at + 28), extra_size = little<uint16_t>(bytes, at + 30),
                 comment_size = little<uint16_t>(bytes, at + 32);
    size_t local = little<uint32_t>(bytes, at + 42);
    if (at + 46 + name_size + extra_size > bytes.size())
      throw FileError("npz file '" + path + "'", "a complete archive", "a truncated one");
    std::string name = bytes.substr(at + 46, name_size);
    if (packed_size == 0xffffffffu || size == 0xffffffffu || local == 0xffffffffu)
      throw UnsupportedError("npz file '" + path + "'", "entries below 4 GB", "a zip64 entry");
    at += 46 + name_size + extra_size + comment_size;
    const size_t data =
        local + 30 + little<uint16_t>(bytes, local + 26) + little<uint16_t>(bytes, local + 28);
    if (data > bytes.size() || bytes.size() - data < packed_size)
      throw FileError("npz file '" + path + "'", "a complete archive", "a truncated one");
    // Deflate packs at most about 1032 to 1: a larger claim is a lie, and would only cost memory.
    if (method == 8 && size / 1100 > packed_size)
      throw FileError("npz entry '" + name + "'", "a size that deflate can reach", std::to_string(size));
    if (method != 0 && method != 8)
      throw UnsupportedError("npz entry '" + name + "'", "stored or deflated data",
                             "method " + std::to_string(method));
    std::string content = bytes.substr(data, packed_size);
    if (method == 8) content = inflate_raw(content, size, name);
    if (name.size() > 4 && name.compare(name.size() - 4, 4, ".npy") == 0) name.resize(name.size() - 4);
    result.emplace(name, parse_npy(content, path + ":" + name));
  }
  return result;
}

void write_npz(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::string out, directory;
  for (const auto& [name, tensor] : tensors) {
    const std::string content = format_npy(tensor), entry = name + ".npy";
    if (content.size() > 0xfffffffeu || out.size() > 0xfffffffeu)
      throw UnsupportedError("npz file '" + path + "'", "less than 4 GB", "more");
    const auto crc =
        static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size()));
    const auto size = static_cast<uint32_t>(content.size()), offset = static_cast<uint32_t>(out.size());
    const auto fields = [&](std::string& to) {
      put<uint16_t>(to, 20);
      put<uint16_t>(to, 0x800);
      put<uint16_t>(to, 0);
      put<uint16_t>(to, 0);
      put<uint16_t>(to, 0x21);
      put(to, crc);
      put(to, size);
      put(to, size);
      put(to, static_cast<uint16_t>(entry.size()));
      put<uint16_t>(to, 0);
    };
    put<uint32_t>(out, 0x04034b50);
    fields(out);
    out += entry + content;
    put<uint32_t>(directory, 0x02014b50);
    put<uint16_t>(directory, 20);
    fields(directory);
    put<uint16_t>(directory, 0);
    put<uint16_t>(directory, 0);
    put<uint16_t>(directory, 0);
    put<uint32_t>(directory, 0);
    put(directory, offset);
    directory += entry;
  }
  const auto start = static_cast<uint32_t>(out.size()), length = static_cast<uint32_t>(directory.size());
  out += directory;
  put<uint32_t>(out, 0x06054b50);
  put<uint16_t>(out, 0);
  put<uint16_t>(out, 0);
  put(out, static_cast<uint16_t>(tensors.size()));
  put(out, static_cast<uint16_t>(tensors.size()));
  put(out, length);
  put(out, start);
  put<uint16_t>(out, 0);
  write_file(path, {out});
}

}  // namespace sardonyx
