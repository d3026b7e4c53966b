// Finds people in a photograph with a YOLOv8 model: faces and other parts, each with a box and a score.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "../common/image.h"
#include "../common/program.h"

namespace examples {
namespace {

// Of two boxes of one class that overlap more than this (intersection over union), the better one stays.
constexpr double kOverlap = 0.45;

struct Thing {
  int kind = 0;
  float score = 0;
  double left = 0, top = 0, right = 0, bottom = 0;

  double area() const { return (right - left) * (bottom - top); }
};

// The strings of the model's metadata entry "names", which reads {0: 'one', 1: 'two'}.
std::vector<std::string> class_names(const sardonyx::Session& session) {
  const auto entry = session.metadata().find("names");
  if (entry == session.metadata().end()) throw std::runtime_error("the model has no 'names' in its metadata");
  std::vector<std::string> names;
  const std::string& text = entry->second;
  for (size_t start = text.find('\''); start != std::string::npos;) {
    const size_t end = text.find('\'', start + 1);
    if (end == std::string::npos) break;
    names.push_back(text.substr(start + 1, end - start - 1));
    start = text.find('\'', end + 1);
  }
  return names;
}

double overlap(const Thing& a, const Thing& b) {
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  const double common = std::max(0.0, width) * std::max(0.0, height);
  const double both = a.area() + b.area() - common;
  return both > 0 ? common / both : 0;
}

// Without those that a better one of the same class covers; best first.
std::vector<Thing> suppress(std::vector<Thing> things) {
  std::stable_sort(things.begin(), things.end(),
                   [](const Thing& a, const Thing& b) { return a.score > b.score; });
  std::vector<Thing> kept;
  for (const Thing& thing : things) {
    const bool covered = std::any_of(kept.begin(), kept.end(), [&](const Thing& better) {
      return better.kind == thing.kind && overlap(better, thing) > kOverlap;
    });
    if (!covered) kept.push_back(thing);
  }
  return kept;
}

std::vector<Thing> detect(sardonyx::Session& session, const Image& image, int size, float least,
                          size_t classes) {
  // The image goes to the top left corner of a black square.
  const double scale = size / static_cast<double>(std::max(image.width, image.height));
  auto scaled = [&](int side) { return std::max(1, static_cast<int>(std::nearbyint(side * scale))); };
  Image square(size, size);
  paste(resize(image, scaled(image.width), scaled(image.height)), square, 0, 0);
  sardonyx::Tensor x(sardonyx::DType::Float32, {1, 3, size, size});
  write_planes(square, 0, 1, Channels::Rgb, size, x.mutable_data<float>());

  // [1, 4 + classes, places]: centre, extent and the score of each class, for each place of the picture.
  const sardonyx::Tensor y = session.run({{session.inputs()[0].name, x}})[0].tensor();
  if (y.rank() != 3 || y.dim(1) != static_cast<int64_t>(4 + classes))
    throw std::runtime_error("the model's output is " + sardonyx::to_string(y.dims()) + ", expected [1, " +
                             std::to_string(4 + classes) + ", places]");
  const int64_t places = y.dim(2);
  const float* values = y.data<float>();
  std::vector<Thing> found;
  for (int64_t place = 0; place < places; ++place) {
    auto value = [&](int64_t row) { return values[row * places + place]; };
    Thing thing;
    for (int kind = 0; kind < static_cast<int>(classes); ++kind) {
      if (value(4 + kind) > thing.score) {
        thing.score = value(4 + kind);
        thing.kind = kind;
      }
    }
    if (thing.score < least) continue;
    const double width = image.width, height = image.height;
    thing.left = std::clamp((value(0) - value(2) / 2) / scale, 0.0, width);
    thing.right = std::clamp((value(0) + value(2) / 2) / scale, 0.0, width);
    thing.top = std::clamp((value(1) - value(3) / 2) / scale, 0.0, height);
    thing.bottom = std::clamp((value(1) + value(3) / 2) / scale, 0.0, height);
    found.push_back(thing);
  }
  return suppress(std::move(found));
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) {
  using namespace examples;
  CLI::App app("Finds people in a photograph: faces and other parts, each with a box and a score.");
  CommonOptions common;
  std::string photo, output;
  float least = 0.25f;
  int size = 320;
  app.add_option("photo", photo, "a JPEG or PNG file")->required();
  app.add_option("-o,--output", output, "write the photograph with the boxes here")->type_name("PNG");
  app.add_option("--least", least, "leave out what has a lower score")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--size", size, "side of the square the model sees, a multiple of 32")
      ->check(CLI::Range(32, 2048))
      ->check([](const std::string& text) {
        return std::stoi(text) % 32 ? "expected a multiple of 32, got " + text : std::string();
      })
      ->capture_default_str();
  add_common_options(app, common);

  return run(app, argc, argv, [&]() -> int {
    Image image = read_image(photo);
    sardonyx::Session session = open_session(common, "nudenet", "320n.onnx");
    const std::vector<std::string> names = class_names(session);
    const std::vector<Thing> found = detect(session, image, size, least, names.size());
    nlohmann::json report = nlohmann::json::array();
    for (size_t i = 0; i < found.size(); ++i) {
      const Thing& thing = found[i];
      const std::string& name = names[static_cast<size_t>(thing.kind)];
      const double width = thing.right - thing.left, height = thing.bottom - thing.top;
      report.push_back(
          {{"class", name}, {"score", thing.score}, {"box", {thing.left, thing.top, width, height}}});
      char score[16];
      std::snprintf(score, sizeof score, "%.2f", thing.score);
      if (!common.json)
        std::printf("%.3f  %.0f x %.0f at (%.0f, %.0f)  %s\n", thing.score, width, height, thing.left,
                    thing.top, name.c_str());
      draw_outline(image,
                   {{{thing.left, thing.top},
                     {thing.right, thing.top},
                     {thing.right, thing.bottom},
                     {thing.left, thing.bottom}}},
                   i, name + " " + score);
    }
    if (common.json) print_json(report);
    if (!output.empty()) write_png(image, output);
    return kOk;
  });
}
