// Reads the text in a photograph with the PP-OCR models: where text is, which way up it is, what it
// says.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "../common/image.h"
#include "../common/program.h"
#include "geometry.h"

namespace examples {
namespace {

constexpr int kShortSide = 736, kLongSide = 2000;  // of the picture in which text is looked for
constexpr float kTextPixel = 0.3f;                 // a pixel of text has at least this probability
constexpr double kBoxScore = 0.5;                  // and the mean over a box is at least this
constexpr double kGrow = 1.6;         // the model marks the core of a line; boxes are grown by this ratio
constexpr int kLineHeight = 48;       // of the pictures of single lines
constexpr int kDirectionWidth = 192;  // of those for the direction model
constexpr float kUpsideDown = 0.9f;   // a line is turned when the direction model is as sure as this

struct Line {
  std::string text;
  double confidence = 0;
  bool upside_down = false;
  Quad box;
};

// [1, 3, image.height, width] as the PP-OCR models were trained: channels in BGR order, from -1 to 1, and 0
// right of the image.
sardonyx::Tensor to_tensor(const Image& image, int width) {
  sardonyx::Tensor x = sardonyx::Tensor::zeros(sardonyx::DType::Float32, {1, 3, image.height, width});
  write_planes(image, 0.5f, 0.5f, Channels::Bgr, width, x.mutable_data<float>());
  return x;
}

sardonyx::Tensor run(sardonyx::Session& session, const sardonyx::Tensor& x) {
  return session.run({{session.inputs()[0].name, x}})[0].tensor();
}

Point centre(const Quad& box) {
  return {(box[0].x + box[1].x + box[2].x + box[3].x) / 4, (box[0].y + box[1].y + box[2].y + box[3].y) / 4};
}

// From top to bottom; boxes side by side, from left to right.
void sort_in_reading_order(std::vector<Quad>& boxes) {
  std::stable_sort(boxes.begin(), boxes.end(),
                   [](const Quad& a, const Quad& b) { return centre(a).y < centre(b).y; });
  for (auto row = boxes.begin(); row != boxes.end();) {
    const auto [low, high] = std::minmax_element(row->begin(), row->end(),
                                                 [](const Point& a, const Point& b) { return a.y < b.y; });
    const double limit = centre(*row).y + (high->y - low->y) / 3;
    const auto end =
        std::find_if(row + 1, boxes.end(), [&](const Quad& box) { return centre(box).y >= limit; });
    std::stable_sort(row, end, [](const Quad& a, const Quad& b) { return centre(a).x < centre(b).x; });
    row = end;
  }
}

class Ocr {
 public:
  explicit Ocr(const CommonOptions& options)
      : detector_(open_session(options, "ppocr", "ch_PP-OCRv4_det_infer.onnx")),
        direction_(open_session(options, "ppocr", "ch_ppocr_mobile_v2.0_cls_infer.onnx")),
        recogniser_(open_session(options, "ppocr", "ch_PP-OCRv4_rec_infer.onnx")) {
    // The characters are the lines of an entry of the model's metadata. Class 0 is the gap between
    // characters; a space comes after all others.
    const auto entry = recogniser_.metadata().find("character");
    if (entry == recogniser_.metadata().end())
      throw std::runtime_error("the recognition model has no 'character' in its metadata");
    characters_.emplace_back();
    for (size_t start = 0; start < entry->second.size();) {
      const size_t end = std::min(entry->second.find('\n', start), entry->second.size());
      characters_.push_back(entry->second.substr(start, end - start));
      start = end + 1;
    }
    characters_.emplace_back(" ");
  }

  // The lines in reading order.
  std::vector<Line> read(const Image& image, double least_confidence) {
    std::vector<Line> lines;
    for (const Quad& corners : find(image)) {
      const double across = std::max(distance(corners[0], corners[1]), distance(corners[3], corners[2]));
      const double down = std::max(distance(corners[0], corners[3]), distance(corners[1], corners[2]));
      Image picture = crop(image, corners, std::max(1, static_cast<int>(std::lround(across))),
                           std::max(1, static_cast<int>(std::lround(down))));
      Line line;
      line.box = corners;
      line.upside_down = is_upside_down(picture);
      if (line.upside_down) {
        picture = rotate_180(picture);
        std::rotate(line.box.begin(), line.box.begin() + 2, line.box.end());
      }
      recognise(picture, line);
      if (!line.text.empty() && line.confidence >= least_confidence) lines.push_back(line);
    }
    return lines;
  }

 private:
  // The corners of each line of text, from the top left one of the text on.
  std::vector<Quad> find(const Image& image) {
    double scale = std::max(1.0, kShortSide / static_cast<double>(std::min(image.width, image.height)));
    scale = std::min(scale, kLongSide / static_cast<double>(std::max(image.width, image.height)));
    auto to_side = [&](int side) {
      return std::max(32, static_cast<int>(std::nearbyint(side * scale / 32)) * 32);
    };
    const int width = to_side(image.width), height = to_side(image.height);
    const sardonyx::Tensor probability = run(detector_, to_tensor(resize(image, width, height), width));
    const Picture picture{probability.data<float>(), width, height};

    std::vector<Quad> boxes;
    for (std::vector<Point>& region : regions_above(picture, kTextPixel)) {
      const Rectangle rectangle = smallest_rectangle(std::move(region));
      if (std::min(rectangle.width, rectangle.height) < 3) continue;
      if (mean_inside(picture, rectangle) < kBoxScore) continue;
      Quad corners = rectangle.grown(kGrow).corners();
      for (Point& corner : corners) {
        corner.x = std::clamp(corner.x * image.width / width, 0.0, static_cast<double>(image.width));
        corner.y = std::clamp(corner.y * image.height / height, 0.0, static_cast<double>(image.height));
      }
      const double across = distance(corners[0], corners[1]), down = distance(corners[0], corners[3]);
      if (std::min(across, down) < 3) continue;
      // A tall box holds a line that runs down (or up) the picture.
      if (down >= 1.5 * across) std::rotate(corners.begin(), corners.begin() + 1, corners.end());
      boxes.push_back(corners);
    }
    sort_in_reading_order(boxes);
    return boxes;
  }

  bool is_upside_down(const Image& line) {
    const int width = std::min(kDirectionWidth, width_at_line_height(line));
    const sardonyx::Tensor y = run(direction_, to_tensor(resize(line, width, kLineHeight), kDirectionWidth));
    return y.data<float>()[1] > kUpsideDown;
  }

  // Sets the text and its confidence: the mean probability of its characters.
  void recognise(const Image& picture, Line& line) {
    const int width = width_at_line_height(picture);
    // Widths in steps of 32 keep the number of different input shapes small.
    const int padded = std::max(320, (width + 31) / 32 * 32);
    const sardonyx::Tensor y = run(recogniser_, to_tensor(resize(picture, width, kLineHeight), padded));
    const int64_t steps = y.dim(1), classes = y.dim(2);
    if (classes != static_cast<int64_t>(characters_.size()))
      throw std::runtime_error("the recognition model has " + std::to_string(classes) +
                               " classes, expected " + std::to_string(characters_.size()));
    // The same class in neighbouring steps is one character; the gap separates repeated ones.
    double sum = 0;
    int64_t count = 0, last = 0;
    for (int64_t step = 0; step < steps; ++step) {
      const float* row = y.data<float>() + step * classes;
      const int64_t best = std::max_element(row, row + classes) - row;
      if (best != 0 && best != last) {
        line.text += characters_[static_cast<size_t>(best)];
        sum += row[best];
        ++count;
      }
      last = best;
    }
    line.confidence = count ? sum / static_cast<double>(count) : 0;
  }

  static int width_at_line_height(const Image& line) {
    return std::max(1,
                    static_cast<int>(std::ceil(kLineHeight * static_cast<double>(line.width) / line.height)));
  }

  sardonyx::Session detector_, direction_, recogniser_;
  std::vector<std::string> characters_;
};

nlohmann::json to_json(const std::vector<Line>& lines) {
  nlohmann::json result = nlohmann::json::array();
  for (const Line& line : lines) {
    nlohmann::json box = nlohmann::json::array();
    for (const Point& corner : line.box)
      box.push_back({std::round(corner.x * 10) / 10, std::round(corner.y * 10) / 10});
    result.push_back({{"text", line.text},
                      {"confidence", line.confidence},
                      {"upside_down", line.upside_down},
                      {"box", box}});
  }
  return result;
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) {
  using namespace examples;
  CLI::App app("Reads the text in a photograph.");
  CommonOptions common;
  std::string photo, output;
  double least = 0.5;
  app.add_option("photo", photo, "a JPEG or PNG file")->required();
  app.add_option("-o,--output", output, "write the photograph with the lines marked here")->type_name("PNG");
  app.add_option("--least", least, "leave out lines of a lower confidence")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  add_common_options(app, common);

  return run(app, argc, argv, [&]() -> int {
    Image image = read_image(photo);
    const std::vector<Line> lines = Ocr(common).read(image, least);
    if (common.json) print_json(to_json(lines));
    for (size_t i = 0; i < lines.size(); ++i) {
      const Line& line = lines[i];
      char confidence[16];
      std::snprintf(confidence, sizeof confidence, "%.2f", line.confidence);
      if (!common.json)
        std::printf("%.3f  at (%.0f, %.0f)  %s\n", line.confidence, line.box[0].x, line.box[0].y,
                    line.text.c_str());
      draw_outline(image, line.box, i, line.text + " " + confidence);
    }
    if (!output.empty()) write_png(image, output);
    return kOk;
  });
}
