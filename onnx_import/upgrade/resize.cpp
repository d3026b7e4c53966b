#include <algorithm>

#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

// Only images, with a factor for each direction.
void upsample_7(Rewrite& r) {
  const float height = r.node.attributes.at<float>("height_scale");
  const float width = r.node.attributes.at<float>("width_scale");
  r.node.attributes.erase("height_scale");
  r.node.attributes.erase("width_scale");
  r.node.attributes.set("scales", std::vector<float>{1, 1, height, width});
  if (r.node.attributes.get<std::string>("mode", "nearest") == "bilinear")
    r.node.attributes.set("mode", std::string("linear"));
}

void upsample_9(Rewrite& r) {
  const auto scales = r.node.attributes.at<std::vector<float>>("scales");
  r.node.attributes.erase("scales");
  r.set_input(1, r.constant(Tensor::of(scales)));
}

// Resize takes the place of Upsample. It only ever enlarges: see resize_11.
void upsample_10(Rewrite& r) {
  r.node.op = "Resize";
  r.node.attributes.set("nearest_mode", std::string("floor"));
}

Attributes nearest(const char* rounding) {
  return attributes({{"mode", std::string("nearest")},
                     {"coordinate_transformation_mode", std::string("asymmetric")},
                     {"nearest_mode", std::string(rounding)}});
}

// Until opset 10 an output element at i looks at i / scale. The nearest element is the one below where the
// dimension grows, and the one above where it shrinks, which takes two nodes when both may happen.
void resize_11(Rewrite& r) {
  Attributes& written = r.node.attributes;
  const ValueId x = r.in(0), scales = r.in(1);
  r.node.inputs = {x, kNone, scales};
  written.set("coordinate_transformation_mode", std::string("asymmetric"));
  if (written.get<std::string>("mode", "nearest") != "nearest" || written.has("nearest_mode")) return;

  bool shrinks = true, grows = true;
  if (const Tensor* constant = r.constant(scales)) {
    const std::vector<double> factors = constant->to_doubles();
    shrinks = std::any_of(factors.begin(), factors.end(), [](double factor) { return factor < 1; });
    grows = std::any_of(factors.begin(), factors.end(), [](double factor) { return factor > 1; });
  }
  written.set("nearest_mode", std::string(shrinks && !grows ? "ceil" : "floor"));
  if (!shrinks || !grows) return;
  const ValueId one = r.constant(Tensor::scalar(1.0f));
  const ValueId smaller = r.op("Resize", {x, kNone, r.op("Min", {scales, one})}, nearest("ceil"));
  r.node.inputs = {smaller, kNone, r.op("Max", {scales, one})};
}

// Omitted inputs were empty tensors, and a mode went that is half_pixel moved by half an element:
// floor(y + 1/2) rounds y with halves up, and rounding y + 1/2 with halves down is ceil(y).
void resize_13(Rewrite& r) {
  Attributes& written = r.node.attributes;
  const auto coordinates = written.get<std::string>("coordinate_transformation_mode", "half_pixel");
  if (coordinates != "tf_crop_and_resize" && r.has(1)) r.set_input(1, kNone);
  if (r.has(3)) {
    const Tensor* sizes = r.constant(r.in(3));
    r.set_input(sizes && sizes->size() == 0 ? 3 : 2, kNone);
  }
  if (coordinates != "tf_half_pixel_for_nn") return;
  const auto mode = written.get<std::string>("mode", "nearest");
  const auto rounding = written.get<std::string>("nearest_mode", "round_prefer_floor");
  if (mode != "nearest" || (rounding != "floor" && rounding != "round_prefer_floor"))
    throw UnsupportedError("coordinate_transformation_mode 'tf_half_pixel_for_nn'",
                           "mode 'nearest' with nearest_mode 'floor' or 'round_prefer_floor'",
                           mode + " with " + rounding);
  written.set("coordinate_transformation_mode", std::string("half_pixel"));
  written.set("nearest_mode", std::string(rounding == "floor" ? "round_prefer_ceil" : "ceil"));
}

void grid_sample_20(Rewrite& r) {
  const auto mode = r.node.attributes.get<std::string>("mode", "bilinear");
  if (mode == "bilinear") r.node.attributes.set("mode", std::string("linear"));
  if (mode == "bicubic") r.node.attributes.set("mode", std::string("cubic"));
}

// There was no shift by half a pixel.
void roi_align_16(Rewrite& r) {
  r.node.attributes.set("coordinate_transformation_mode", std::string("output_half_pixel"));
}

}  // namespace

std::vector<Step> resize_steps() {
  return {{"Upsample", 7, upsample_7, ""},   {"Upsample", 9, upsample_9, ""},
          {"Upsample", 10, upsample_10, ""}, {"Resize", 11, resize_11, ""},
          {"Resize", 13, resize_13, ""},     {"GridSample", 20, grid_sample_20, ""},
          {"RoiAlign", 16, roi_align_16, ""}};
}

}  // namespace sardonyx::upgrade
