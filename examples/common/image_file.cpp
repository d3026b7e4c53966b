// JPEG and PNG files, with libjpeg and libpng.
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

#include "image.h"
#include "program.h"

namespace examples {

namespace {

constexpr uint64_t kMaxPixels = 100'000'000;

void check_size(const std::string& path, uint64_t width, uint64_t height) {
  if (width == 0 || height == 0 || width * height > kMaxPixels)
    throw std::runtime_error(path + ": " + std::to_string(width) + " x " + std::to_string(height) +
                             " pixels, expected at most " + std::to_string(kMaxPixels));
}

// libjpeg reports errors by a call that must not return.
struct JpegErrors {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

void jpeg_failed(j_common_ptr state) {
  auto* errors = reinterpret_cast<JpegErrors*>(state->err);
  state->err->format_message(state, errors->message);
  std::longjmp(errors->jump, 1);
}

void jpeg_warned(j_common_ptr state, int level) {
  // libjpeg would fill the missing part of a cut off file with grey.
  if (level < 0 && state->err->msg_code == JWRN_JPEG_EOF) jpeg_failed(state);
}

// The orientation tag (1 to 8) of Exif data, 1 when there is none.
int exif_orientation(const uint8_t* data, size_t size) {
  if (size < 14 || std::memcmp(data, "Exif\0\0", 6) != 0) return 1;
  const uint8_t* tiff = data + 6;
  size -= 6;
  const bool little = tiff[0] == 'I';
  auto number = [&](size_t at, int bytes) -> size_t {
    size_t value = 0;
    if (at > size || size - at < static_cast<size_t>(bytes)) return 0;
    for (int i = 0; i < bytes; ++i) value |= size_t{tiff[at + i]} << 8 * (little ? i : bytes - 1 - i);
    return value;
  };
  const size_t directory = number(4, 4);
  for (size_t i = 0, count = number(directory, 2); i < count; ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (number(entry, 2) == 0x0112) {
      const size_t value = number(entry + 8, 2);
      return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
  }
  return 1;
}

// Exif's orientations: 1 upright, 2 mirrored, 3 half a turn, 4 upside down mirrored, 5 to 8 the same with
// rows and columns exchanged.
Image turn_upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool exchanged = orientation >= 5;
  const bool mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image result(exchanged ? image.height : image.width, exchanged ? image.width : image.height);
  for (int y = 0; y < result.height; ++y) {
    for (int x = 0; x < result.width; ++x) {
      const int from_x = exchanged ? y : x, from_y = exchanged ? x : y;
      std::memcpy(result.at(x, y),
                  image.at(mirror_x ? image.width - 1 - from_x : from_x,
                           mirror_y ? image.height - 1 - from_y : from_y),
                  3);
    }
  }
  return result;
}

// False with errors.message set when the file is broken. Nothing in here has a destructor that a jump from
// libjpeg could miss.
bool decode_jpeg(const std::string& path, const std::string& bytes, JpegErrors& errors,
                 jpeg_decompress_struct& state, Image& image, int& orientation) {
  if (setjmp(errors.jump)) return false;
  jpeg_create_decompress(&state);
  jpeg_mem_src(&state, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  jpeg_save_markers(&state, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&state, TRUE);
  for (auto* marker = state.marker_list; marker && orientation == 1; marker = marker->next)
    orientation = exif_orientation(marker->data, marker->data_length);
  check_size(path, state.image_width, state.image_height);
  image = Image(static_cast<int>(state.image_width), static_cast<int>(state.image_height));
  state.out_color_space = JCS_RGB;
  jpeg_start_decompress(&state);
  while (state.output_scanline < state.output_height) {
    JSAMPROW row = image.at(0, static_cast<int>(state.output_scanline));
    jpeg_read_scanlines(&state, &row, 1);
  }
  return jpeg_finish_decompress(&state);
}

Image read_jpeg(const std::string& path, const std::string& bytes) {
  Image image;
  int orientation = 1;
  JpegErrors errors{};
  jpeg_decompress_struct state{};
  state.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = jpeg_failed;
  errors.manager.emit_message = jpeg_warned;
  std::unique_ptr<jpeg_decompress_struct, decltype(&jpeg_destroy_decompress)> owner(&state,
                                                                                    jpeg_destroy_decompress);
  if (!decode_jpeg(path, bytes, errors, state, image, orientation))
    throw std::runtime_error(path + ": broken JPEG file: " + errors.message);
  return turn_upright(std::move(image), orientation);
}

Image read_png(const std::string& path, const std::string& bytes) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  auto fail = [&] {
    const std::string message = png.message;
    png_image_free(&png);
    return std::runtime_error(path + ": broken PNG file: " + message);
  };
  if (!png_image_begin_read_from_memory(&png, bytes.data(), bytes.size())) throw fail();
  try {
    check_size(path, png.width, png.height);
  } catch (...) {
    png_image_free(&png);
    throw;
  }
  png.format = PNG_FORMAT_RGBA;
  std::vector<uint8_t> rgba(size_t{png.width} * png.height * 4);
  if (!png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr)) throw fail();
  Image image(static_cast<int>(png.width), static_cast<int>(png.height));
  for (size_t i = 0; i < rgba.size() / 4; ++i) std::memcpy(&image.pixels[3 * i], &rgba[4 * i], 3);
  return image;
}

}  // namespace

Image read_image(const std::string& path) {
  const std::string bytes = read_file(path);
  if (bytes.rfind("\xFF\xD8\xFF", 0) == 0) return read_jpeg(path, bytes);
  if (bytes.rfind("\x89PNG\r\n\x1A\n", 0) == 0) return read_png(path, bytes);
  throw std::runtime_error(path + ": neither a JPEG nor a PNG file");
}

void write_png(const Image& image, const std::string& path) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  if (!png_image_write_to_file(&png, path.c_str(), 0, image.pixels.data(), 0, nullptr))
    throw std::runtime_error(path + ": cannot write: " + png.message);
}

}  // namespace examples
