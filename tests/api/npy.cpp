// Damaged .npy files end in an error and take no memory that the file does not pay for.
#include "sardonyx/npy.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace sardonyx::test {

namespace {

Tensor read(const std::string& descr, const std::string& shape, const std::string& data) {
  const std::string header =
      "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" + shape + "), }\n";
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size());
  bytes += '\0';
  const auto path =
      std::filesystem::temp_directory_path() / ("sardonyx_npy_" + std::to_string(getpid()) + ".npy");
  std::ofstream(path, std::ios::binary) << bytes << header << data;
  struct Removed {
    std::filesystem::path path;
    ~Removed() { std::filesystem::remove(path); }
  } removed{path};
  return read_npy(path);
}

}  // namespace

TEST(Npy, ReadsStrings) {
  const Tensor tensor = read("<U2", "2,", std::string("a\0\0\0b\0\0\0c\0\0\0\0\0\0\0", 16));
  ASSERT_EQ(tensor.dims(), Dims{2});
  EXPECT_EQ(tensor.data<std::string>()[0], "ab");
  EXPECT_EQ(tensor.data<std::string>()[1], "c");
}

TEST(Npy, RefusesWidthsPastInt64) {
  // 4 x this number wraps around to 4.
  EXPECT_THROW(read("<U4611686018427387905", "1,", std::string("a\0\0\0", 4)), Error);
  EXPECT_THROW(read("<U99999999999999999999", "1,", "abcd"), Error);
  EXPECT_THROW(read("|S-1", "1,", "abcd"), Error);
}

TEST(Npy, RefusesStringsWithoutWidth) { EXPECT_THROW(read("<U0", "1000000,", ""), FileError); }

TEST(Npy, RefusesDimensionsPastTheData) {
  EXPECT_THROW(read("<f4", "3,", std::string(8, '\0')), FileError);
  EXPECT_THROW(read("<f4", "-1,", std::string(8, '\0')), Error);
  EXPECT_THROW(read("<f4", "4294967296,4294967296,", std::string(8, '\0')), Error);
}

}  // namespace sardonyx::test
