#include "image.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace examples {

namespace {

// What one pixel of a resized line is made of: the pixels from `first` on, with these weights.
struct Taps {
  int first;
  std::vector<float> weights;
};

// A triangle around the centre of each new pixel, as wide as the new pixel is on the old line.
std::vector<Taps> triangle_taps(int from, int to) {
  const double scale = static_cast<double>(from) / to;
  const double reach = std::max(scale, 1.0);
  std::vector<Taps> result(to);
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - reach + 0.5));
    const int end = std::min(from, static_cast<int>(centre + reach + 0.5));
    std::vector<double> weights(end - first);
    double sum = 0;
    for (int x = first; x < end; ++x)
      sum += weights[x - first] = std::max(0.0, 1 - std::abs((x + 0.5 - centre) / reach));
    result[i].first = first;
    for (double weight : weights) result[i].weights.push_back(static_cast<float>(weight / sum));
  }
  return result;
}

uint8_t to_byte(float value) { return static_cast<uint8_t>(std::clamp(value + 0.5f, 0.0f, 255.0f)); }

Image resize_rows(const Image& image, int width) {
  Image result(width, image.height);
  const std::vector<Taps> taps = triangle_taps(image.width, width);
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < width; ++x) {
      float sum[3] = {0, 0, 0};
      const uint8_t* pixel = image.at(taps[x].first, y);
      for (float weight : taps[x].weights)
        for (float& channel : sum) channel += weight * *pixel++;
      for (int c = 0; c < 3; ++c) result.at(x, y)[c] = to_byte(sum[c]);
    }
  }
  return result;
}

Image resize_columns(const Image& image, int height) {
  Image result(image.width, height);
  const std::vector<Taps> taps = triangle_taps(image.height, height);
  const int row_size = image.width * 3;
  std::vector<float> sums(row_size);
  for (int y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (size_t tap = 0; tap < taps[y].weights.size(); ++tap) {
      const uint8_t* row = image.at(0, taps[y].first + static_cast<int>(tap));
      for (int i = 0; i < row_size; ++i) sums[i] += taps[y].weights[tap] * row[i];
    }
    for (int i = 0; i < row_size; ++i) result.at(0, y)[i] = to_byte(sums[i]);
  }
  return result;
}

}  // namespace

Image::Image(int w, int h, Colour fill) : width(w), height(h), pixels(static_cast<size_t>(w) * h * 3) {
  for (size_t i = 0; i < pixels.size(); i += 3) {
    pixels[i] = fill.red;
    pixels[i + 1] = fill.green;
    pixels[i + 2] = fill.blue;
  }
}

Image resize(const Image& image, int width, int height) {
  return resize_columns(resize_rows(image, width), height);
}

Image rotate_180(const Image& image) {
  Image result(image.width, image.height);
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      std::memcpy(result.at(x, y), image.at(image.width - 1 - x, image.height - 1 - y), 3);
  return result;
}

Image crop(const Image& image, const Quad& corners, int width, int height) {
  // The projective map of the unit square to the quadrilateral, in closed form.
  const auto& [p0, p1, p2, p3] = corners;
  const Point d1{p1.x - p2.x, p1.y - p2.y}, d2{p3.x - p2.x, p3.y - p2.y};
  const Point d{p0.x - p1.x + p2.x - p3.x, p0.y - p1.y + p2.y - p3.y};
  const double determinant = d1.x * d2.y - d2.x * d1.y;
  const double g = (d.x * d2.y - d2.x * d.y) / determinant;
  const double h = (d1.x * d.y - d.x * d1.y) / determinant;
  const Point across{p1.x - p0.x + g * p1.x, p1.y - p0.y + g * p1.y};
  const Point down{p3.x - p0.x + h * p3.x, p3.y - p0.y + h * p3.y};

  Image result(width, height);
  for (int row = 0; row < height; ++row) {
    for (int column = 0; column < width; ++column) {
      const double u = (column + 0.5) / width, v = (row + 0.5) / height;
      const double w = 1 + g * u + h * v;
      const double x = (p0.x + across.x * u + down.x * v) / w, y = (p0.y + across.y * u + down.y * v) / w;
      if (!(x >= 0 && x < image.width && y >= 0 && y < image.height)) continue;
      const double left = std::floor(x - 0.5), top = std::floor(y - 0.5);
      const double fx = x - 0.5 - left, fy = y - 0.5 - top;
      const int x0 = std::max(0, static_cast<int>(left)),
                x1 = std::min(image.width - 1, static_cast<int>(left) + 1);
      const int y0 = std::max(0, static_cast<int>(top)),
                y1 = std::min(image.height - 1, static_cast<int>(top) + 1);
      for (int c = 0; c < 3; ++c) {
        const double upper = image.at(x0, y0)[c] * (1 - fx) + image.at(x1, y0)[c] * fx;
        const double lower = image.at(x0, y1)[c] * (1 - fx) + image.at(x1, y1)[c] * fx;
        result.at(column, row)[c] = to_byte(static_cast<float>(upper * (1 - fy) + lower * fy));
      }
    }
  }
  return result;
}

void paste(const Image& source, Image& target, int x, int y) {
  const int width = std::min(source.width, target.width - x);
  for (int row = 0; row < source.height && y + row < target.height; ++row)
    std::memcpy(target.at(x, y + row), source.at(0, row), static_cast<size_t>(width) * 3);
}

void write_planes(const Image& image, float mean, float deviation, Channels order, int64_t row_size,
                  float* planes) {
  for (int c = 0; c < 3; ++c) {
    const int channel = order == Channels::Bgr ? 2 - c : c;
    for (int y = 0; y < image.height; ++y) {
      float* row = planes + (static_cast<int64_t>(c) * image.height + y) * row_size;
      for (int x = 0; x < image.width; ++x) row[x] = (image.at(x, y)[channel] / 255.0f - mean) / deviation;
    }
  }
}

}  // namespace examples
