// Whole files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sardonyx {

// FileError when the file cannot be read.
std::string read_file(const std::string& path);

// Writes the parts one after another. The file is complete or what it was before: it is written beside its
// place, synced and renamed. FileError when it cannot be written.
void write_file(const std::string& path, const std::vector<std::string_view>& parts);

}  // namespace sardonyx
