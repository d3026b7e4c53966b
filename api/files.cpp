#include "api/files.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "sardonyx/error.h"

namespace sardonyx {

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw FileError("file '" + path + "'", "a readable file", std::strerror(errno));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_file(const std::string& path, const std::vector<std::string_view>& parts) {
  const std::string temporary = path + ".tmp" + std::to_string(getpid());
  std::FILE* file = std::fopen(temporary.c_str(), "wb");
  if (!file) throw FileError("file '" + path + "'", "a writable place", std::strerror(errno));
  bool ok = true;
  for (const std::string_view part : parts)
    ok = ok && std::fwrite(part.data(), 1, part.size(), file) == part.size();
  ok = std::fflush(file) == 0 && ok;
  ok = fsync(fileno(file)) == 0 && ok;
  ok = std::fclose(file) == 0 && ok;
  ok = ok && std::rename(temporary.c_str(), path.c_str()) == 0;
  if (!ok) {
    const std::string why = std::strerror(errno);
    std::remove(temporary.c_str());
    throw FileError("file '" + path + "'", "to be written", why);
  }
}

}  // namespace sardonyx
