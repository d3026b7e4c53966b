// Which format an image has, and the formats that need no library: BMP and PNM.
#include "providers/cpu/support/image.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <string_view>
#include <utility>

#include "sardonyx/error.h"

namespace sardonyx::cpu {

void image_error(const char* format, const std::string& why) {
  throw InputError(std::string(format) + " image: " + why);
}

void Pixels::resize(int64_t w, int64_t h, size_t bytes) {
  if (w <= 0 || h <= 0)
    throw InputError("image size", "at least one pixel", std::to_string(w) + " x " + std::to_string(h));
  // No format packs more pixels into a byte than this, but for pictures of one colour, which may be small.
  const auto limit = std::min<int64_t>(
      int64_t{1} << 27, std::max<int64_t>(int64_t{1} << 24, static_cast<int64_t>(bytes) * 8192));
  if (w > limit / h)
    throw InputError("image size", "at most " + std::to_string(limit) + " pixels",
                     std::to_string(w) + " x " + std::to_string(h));
  width = w;
  height = h;
  rgb.assign(static_cast<size_t>(w * h * 3), 0);
}

namespace {

// Little-endian fields of a file; reading past its end is an error.
struct Reader {
  Bytes bytes;
  const char* format;
  void need(size_t at, size_t n) const {
    if (at > bytes.size() || n > bytes.size() - at) image_error(format, "the file ends early");
  }
  uint32_t u8(size_t at) const { return need(at, 1), bytes[at]; }
  uint32_t u16(size_t at) const { return need(at, 2), static_cast<uint32_t>(bytes[at] | bytes[at + 1] << 8); }
  uint32_t u32(size_t at) const { return u16(at) | u16(at + 2) << 16; }
  int32_t i32(size_t at) const { return static_cast<int32_t>(u32(at)); }
};

// A field of a pixel: its bits, scaled to 8.
struct Field {
  uint32_t mask = 0;
  uint8_t of(uint32_t pixel) const {
    if (mask == 0) return 0;
    const int shift = std::countr_zero(mask);
    const uint64_t max = mask >> shift, value = (pixel & mask) >> shift;
    return static_cast<uint8_t>((value * 255 + max / 2) / max);
  }
};

struct Bmp {
  Reader in;
  Pixels out;
  uint32_t bits = 0, compression = 0;
  bool top_down = false;
  size_t palette = 0, palette_entry = 4, palette_size = 0;
  Field red, green, blue;

  uint8_t* at(int64_t x, int64_t y) {
    return out.rgb.data() + ((top_down ? y : out.height - 1 - y) * out.width + x) * 3;
  }

  void put_index(int64_t x, int64_t y, uint32_t index) {
    if (index >= palette_size) image_error("BMP", "a colour outside the palette");
    const size_t from = palette + index * palette_entry;
    in.need(from, 3);
    uint8_t* to = at(x, y);
    for (size_t c = 0; c < 3; ++c) to[c] = in.bytes[from + 2 - c];
  }

  void plain(size_t data) {
    const size_t stride = (static_cast<size_t>(out.width) * bits + 31) / 32 * 4;
    for (int64_t y = 0; y < out.height; ++y) {
      const size_t row = data + static_cast<size_t>(y) * stride;
      in.need(row, (static_cast<size_t>(out.width) * bits + 7) / 8);
      for (int64_t x = 0; x < out.width; ++x) {
        const size_t bit = static_cast<size_t>(x) * bits;
        if (bits <= 8) {
          put_index(x, y, in.bytes[row + bit / 8] >> (8 - bits - bit % 8) & ((1u << bits) - 1));
          continue;
        }
        uint32_t pixel = 0;
        for (size_t i = 0; i < bits / 8; ++i)
          pixel |= static_cast<uint32_t>(in.bytes[row + bit / 8 + i]) << (8 * i);
        uint8_t* to = at(x, y);
        to[0] = red.of(pixel), to[1] = green.of(pixel), to[2] = blue.of(pixel);
      }
    }
  }

  // Runs of one byte pair each: (count, value), or 0 and an escape: end of line, end, move, literal.
  void run_lengths(size_t data) {
    const bool nibbles = bits == 4;
    int64_t x = 0, y = 0;
    const auto put = [&](uint32_t index) {
      if (x < out.width && y < out.height) put_index(x, y, index);
      ++x;
    };
    while (y < out.height) {
      const uint32_t count = in.u8(data), value = in.u8(data + 1);
      data += 2;
      if (count > 0) {
        for (uint32_t i = 0; i < count; ++i) put(!nibbles ? value : i % 2 ? value & 15 : value >> 4);
      } else if (value == 0) {
        x = 0, ++y;
      } else if (value == 1) {
        return;
      } else if (value == 2) {
        x += in.u8(data), y += in.u8(data + 1), data += 2;
      } else {
        for (uint32_t i = 0; i < value; ++i) {
          const uint32_t byte = in.u8(data + (nibbles ? i / 2 : i));
          put(!nibbles ? byte : i % 2 ? byte & 15 : byte >> 4);
        }
        const size_t used = nibbles ? (value + 1) / 2 : value;
        data += used + used % 2;
      }
    }
  }

  void decode() {
    const uint32_t data = in.u32(10), header = in.u32(14);
    const bool old = header == 12;
    if (!old && header < 40) image_error("BMP", "an unknown header");
    const int64_t width = old ? int64_t{in.u16(18)} : int64_t{in.i32(18)},
                  height = old ? int64_t{in.u16(20)} : int64_t{in.i32(22)};
    bits = in.u16(old ? 24 : 28);
    compression = old ? 0 : in.u32(30);
    top_down = height < 0;
    out.resize(width, top_down ? -height : height, in.bytes.size());
    if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32)
      image_error("BMP", std::to_string(bits) + " bits a pixel");
    palette = 14 + header;
    palette_entry = old ? 3 : 4;
    const uint32_t used = old ? 0 : in.u32(46);
    palette_size = bits > 8 ? 0 : used ? std::min<size_t>(used, size_t{1} << bits) : size_t{1} << bits;
    red.mask = bits == 16 ? 0x7c00 : 0xff0000;
    green.mask = bits == 16 ? 0x03e0 : 0x00ff00;
    blue.mask = bits == 16 ? 0x001f : 0x0000ff;
    if (compression == 3 || compression == 6) {
      if (bits != 16 && bits != 32) image_error("BMP", "bit fields of " + std::to_string(bits) + " bits");
      red.mask = in.u32(54), green.mask = in.u32(58), blue.mask = in.u32(62);
    }
    if (compression == 0 || compression == 3 || compression == 6) return plain(data);
    if ((compression == 1 && bits == 8) || (compression == 2 && bits == 4)) return run_lengths(data);
    image_error("BMP",
                "compression " + std::to_string(compression) + " of " + std::to_string(bits) + " bits");
  }
};

// The numbers of a PNM header, and of a PNM in text.
struct PnmReader {
  Bytes bytes;
  size_t at = 2;
  // Skips space and comments; -1 at the end.
  int skip() {
    while (at < bytes.size()) {
      if (bytes[at] == '#') {
        while (at < bytes.size() && bytes[at] != '\n' && bytes[at] != '\r') ++at;
      } else if (std::isspace(bytes[at])) {
        ++at;
      } else {
        return bytes[at];
      }
    }
    return -1;
  }
  int64_t number() {
    const int first = skip();
    if (first < '0' || first > '9') image_error("PNM", "expected a number");
    int64_t value = 0;
    for (; at < bytes.size() && std::isdigit(bytes[at]); ++at) {
      value = value * 10 + (bytes[at] - '0');
      if (value > INT32_MAX) image_error("PNM", "a number too large");
    }
    return value;
  }
};

}  // namespace

Pixels decode_bmp(Bytes bytes) {
  Bmp bmp;
  bmp.in = {bytes, "BMP"};
  bmp.decode();
  return std::move(bmp.out);
}

Pixels decode_pnm(Bytes bytes) {
  PnmReader in{bytes};
  const int kind = bytes[1] - '0';
  const bool text = kind <= 3, bitmap = kind == 1 || kind == 4, colour = kind == 3 || kind == 6;
  const int64_t width = in.number(), height = in.number(), max = bitmap ? 1 : in.number();
  if (max < 1 || max > 65535) image_error("PNM", "a maximum of " + std::to_string(max));
  Pixels out;
  out.resize(width, height, bytes.size());
  if (!text) ++in.at;  // one space ends the header
  const auto sample = [&]() -> int64_t {
    if (text && bitmap) {
      const int c = in.skip();
      if (c != '0' && c != '1') image_error("PNM", "expected 0 or 1");
      return ++in.at, c - '0';
    }
    if (text) return in.number();
    const size_t size = max > 255 ? 2 : 1;
    if (in.at > bytes.size() || bytes.size() - in.at < size) image_error("PNM", "the file ends early");
    const int64_t value = size == 2 ? bytes[in.at] << 8 | bytes[in.at + 1] : bytes[in.at];
    return in.at += size, value;
  };
  uint8_t* to = out.rgb.data();
  for (int64_t y = 0; y < height; ++y) {
    const size_t row = in.at;
    for (int64_t x = 0; x < width; ++x, to += 3) {
      if (bitmap && !text) {
        const size_t byte = row + static_cast<size_t>(x / 8);
        if (byte >= bytes.size()) image_error("PNM", "the file ends early");
        to[0] = to[1] = to[2] = bytes[byte] >> (7 - x % 8) & 1 ? 0 : 255;
        in.at = byte + 1;
        continue;
      }
      for (int c = 0; c < (colour ? 3 : 1); ++c) {
        const int64_t value = sample();
        if (value > max) image_error("PNM", "a value above the maximum");
        to[c] = static_cast<uint8_t>(bitmap ? (value ? 0 : 255) : (value * 255 + max / 2) / max);
      }
      if (!colour) to[1] = to[2] = to[0];
    }
  }
  return out;
}

Pixels decode_image(Bytes bytes) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                              std::min<size_t>(bytes.size(), 16));
  const auto starts = [&](std::string_view magic, size_t at = 0) {
    return head.size() >= at + magic.size() && head.substr(at, magic.size()) == magic;
  };
  using namespace std::string_view_literals;
  if (starts("\xff\xd8\xff"sv)) return decode_jpeg(bytes);
  if (starts("\x89PNG\r\n\x1a\n"sv)) return decode_png(bytes);
  if (starts("BM"sv)) return decode_bmp(bytes);
  if (starts("RIFF"sv) && starts("WEBP"sv, 8)) return decode_webp(bytes);
  if (starts("II*\0"sv) || starts("MM\0*"sv) || starts("II+\0"sv) || starts("MM\0+"sv))
    return decode_tiff(bytes);
  if (starts("\0\0\0\x0cjP  \r\n"sv) || starts("\xff\x4f\xff\x51"sv)) return decode_jpeg2000(bytes);
  if (head.size() >= 3 && head[0] == 'P' && head[1] >= '1' && head[1] <= '6') return decode_pnm(bytes);
  throw InputError("encoded image", "BMP, JPEG, JPEG 2000, TIFF, PNG, WebP or PNM",
                   std::to_string(bytes.size()) + " bytes of an unknown format");
}

}  // namespace sardonyx::cpu
