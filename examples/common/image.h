// Photographs: reading JPEG and PNG, writing PNG, resizing, and drawing on them what a model found.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace examples {

struct Point {
  double x = 0, y = 0;
};
// Top left, top right, bottom right, bottom left of what the quadrilateral shows.
using Quad = std::array<Point, 4>;

struct Colour {
  uint8_t red, green, blue;
};

// Rows of RGB pixels, eight bits a channel.
struct Image {
  Image() = default;
  Image(int width, int height, Colour fill = {0, 0, 0});
  uint8_t* at(int x, int y) { return pixels.data() + (static_cast<size_t>(y) * width + x) * 3; }
  const uint8_t* at(int x, int y) const { return pixels.data() + (static_cast<size_t>(y) * width + x) * 3; }

  int width = 0, height = 0;
  std::vector<uint8_t> pixels;
};

// A JPEG or PNG file, turned the right way up. std::runtime_error for anything else, for a damaged file and
// for more than a hundred million pixels.
Image read_image(const std::string& path);
void write_png(const Image& image, const std::string& path);

// Bilinear, and averaging when it shrinks.
Image resize(const Image& image, int width, int height);
Image rotate_180(const Image& image);
// What the quadrilateral shows, as an upright image of the given size.
Image crop(const Image& image, const Quad& corners, int width, int height);
void paste(const Image& source, Image& target, int x, int y);

enum class Channels { Rgb, Bgr };
// (x / 255 - mean) / deviation, written as three planes of rows of `row_size` floats, height rows each; what
// lies right of the image in a row is left as it is.
void write_planes(const Image& image, float mean, float deviation, Channels order, int64_t row_size,
                  float* planes);

Colour colour(size_t index);
void fill_rectangle(Image& image, double left, double top, double right, double bottom, Colour colour);
void draw_line(Image& image, Point from, Point to, int thickness, Colour colour);
// A 5 x 7 font for ASCII, `scale` pixels for each of its dots; other characters become a question mark.
// Returns the width of the text.
int draw_text(Image& image, int x, int y, const std::string& utf8, int scale, Colour colour);
int text_width(const std::string& utf8, int scale);
// Closed, with a label above its topmost corner.
void draw_outline(Image& image, const Quad& corners, size_t index, const std::string& label);

}  // namespace examples
