// Decoding of image files in memory to 8-bit RGB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sardonyx::cpu {

struct Pixels {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  // height * width * 3, rows from the top

  // Sizes the image. InputError when the picture is empty, or too large for a file of `bytes`.
  void resize(int64_t w, int64_t h, size_t bytes);
};

using Bytes = std::span<const uint8_t>;

// BMP, JPEG, JPEG 2000, TIFF, PNG, WebP or PNM, told apart by their first bytes. InputError for bytes that
// are none of these or are damaged; UnsupportedError for a format that this build has no library for.
Pixels decode_image(Bytes bytes);

Pixels decode_bmp(Bytes bytes);
Pixels decode_pnm(Bytes bytes);
Pixels decode_jpeg(Bytes bytes);
Pixels decode_png(Bytes bytes);
Pixels decode_webp(Bytes bytes);
Pixels decode_tiff(Bytes bytes);
Pixels decode_jpeg2000(Bytes bytes);

// Throws InputError about an image of a format.
[[noreturn]] void image_error(const char* format, const std::string& why);

}  // namespace sardonyx::cpu
