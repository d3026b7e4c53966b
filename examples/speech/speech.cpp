// Finds where somebody speaks in a WAV file with the Silero voice activity model.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "../common/image.h"
#include "../common/program.h"
#include "../common/wav.h"

namespace examples {
namespace {

constexpr int kRate = 16000;
constexpr int64_t kWindow = 512;  // samples the model looks at in one step
constexpr int64_t kContext = 64;  // and those before it, which it wants to see again
constexpr double kHysteresis =
    0.15;  // speech ends only when the probability is this much below the threshold
constexpr int64_t kMinSpeech = kRate / 4, kMinSilence = kRate / 10, kMargin = kRate * 3 / 100;

// Samples: [start, end).
struct Interval {
  int64_t start, end;
};

// The probability of speech in each window.
std::vector<float> probabilities(sardonyx::Session& session, const std::vector<float>& samples) {
  using sardonyx::Tensor;
  const int64_t length = static_cast<int64_t>(samples.size());
  Tensor state = Tensor::zeros(sardonyx::DType::Float32, {2, 1, 128});
  const Tensor rate = Tensor::scalar<int64_t>(kRate);
  std::vector<float> result;
  for (int64_t start = 0; start < length; start += kWindow) {
    Tensor input = Tensor::zeros(sardonyx::DType::Float32, {1, kContext + kWindow});
    const int64_t first = std::max<int64_t>(0, start - kContext), end = std::min(length, start + kWindow);
    std::copy(samples.begin() + first, samples.begin() + end,
              input.mutable_data<float>() + kContext - (start - first));
    const auto outputs = session.run({{"input", input}, {"state", state}, {"sr", rate}});
    result.push_back(outputs[0].tensor().data<float>()[0]);
    state = outputs[1].tensor();
  }
  return result;
}

// The stretches of speech.
std::vector<Interval> intervals(const std::vector<float>& probability, int64_t length, double threshold) {
  std::vector<Interval> found;
  std::optional<int64_t> start, silence;
  auto close = [&](int64_t end) {
    if (end - *start > kMinSpeech) found.push_back({*start, end});
    start.reset();
    silence.reset();
  };
  for (size_t window = 0; window < probability.size(); ++window) {
    const int64_t here = static_cast<int64_t>(window) * kWindow;
    if (probability[window] >= threshold) {
      if (!start) start = here;
      silence.reset();
    } else if (start && probability[window] < std::max(threshold - kHysteresis, 0.01)) {
      if (!silence) silence = here;
      if (here - *silence >= kMinSilence) close(*silence);
    }
  }
  if (start) close(length);

  // A margin on both sides, or half of the pause where two would overlap.
  for (size_t i = 0; i < found.size(); ++i) {
    if (i == 0) found[i].start -= std::min(kMargin, found[i].start);
    if (i + 1 == found.size()) {
      found[i].end += std::min(kMargin, length - found[i].end);
    } else {
      const int64_t margin = std::min(kMargin, (found[i + 1].start - found[i].end) / 2);
      found[i].end += margin;
      found[i + 1].start -= margin;
    }
  }
  return found;
}

// The waveform, the probability of speech and the intervals, one above the other.
Image plot(const std::vector<float>& samples, const std::vector<float>& probability,
           const std::vector<Interval>& found) {
  constexpr int kWidth = 1200, kHeight = 420, kLeft = 50, kColumns = kWidth - kLeft - 10;
  constexpr double kWaveMiddle = 130, kWaveReach = 110, kTop = 260, kBottom = kHeight - 30;
  Image image(kWidth, kHeight, {255, 255, 255});
  const double length = static_cast<double>(std::max<size_t>(1, samples.size()));
  auto place = [&](double sample) { return kLeft + sample * kColumns / length; };
  for (const Interval& speech : found)
    fill_rectangle(image, place(static_cast<double>(speech.start)), 10,
                   place(static_cast<double>(speech.end)), kBottom, {214, 236, 214});
  for (size_t column = 0; column < kColumns; ++column) {
    const auto first = samples.begin() + static_cast<int64_t>(samples.size() * column / kColumns);
    const auto end = samples.begin() + static_cast<int64_t>(samples.size() * (column + 1) / kColumns);
    if (first == end) continue;
    const auto [low, high] = std::minmax_element(first, end);
    const double x = kLeft + static_cast<double>(column);
    fill_rectangle(image, x, kWaveMiddle - kWaveReach * *high, x + 1, kWaveMiddle - kWaveReach * *low + 1,
                   {0, 90, 170});
  }
  auto level = [&](double value) { return kBottom - value * (kBottom - kTop); };
  for (const auto& [value, label] : {std::pair{0.0, "0"}, {0.5, "0.5"}, {1.0, "1"}}) {
    draw_line(image, {kLeft, level(value)}, {kWidth - 10, level(value)}, 1, {200, 200, 200});
    draw_text(image, kLeft - 6 - text_width(label, 2), static_cast<int>(level(value)) - 7, label, 2,
              {0, 0, 0});
  }
  auto point = [&](size_t window) {
    return Point{place((static_cast<double>(window) + 0.5) * kWindow), level(probability[window])};
  };
  for (size_t window = 1; window < probability.size(); ++window)
    draw_line(image, point(window - 1), point(window), 2, {200, 30, 30});
  const int seconds = static_cast<int>(samples.size() / kRate);
  for (int tick = 0; tick <= seconds; tick += std::max(1, seconds / 12)) {
    const std::string label = std::to_string(tick) + " s";
    draw_text(image, static_cast<int>(place(tick * static_cast<double>(kRate))) - text_width(label, 2) / 2,
              kHeight - 22, label, 2, {0, 0, 0});
  }
  return image;
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) {
  using namespace examples;
  CLI::App app("Finds where somebody speaks in a WAV file.");
  CommonOptions common;
  std::string file, output;
  double threshold = 0.5;
  app.add_option("sound", file, "a WAV file")->required();
  app.add_option("-o,--output", output, "write a plot here")->type_name("PNG");
  app.add_option("--threshold", threshold, "probability from which it is speech")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  add_common_options(app, common);

  return run(app, argc, argv, [&]() -> int {
    const Sound sound = resample(read_wav(file), kRate);
    sardonyx::Session session = open_session(common, "silero_vad", "silero_vad.onnx");
    const std::vector<float> probability = probabilities(session, sound.samples);
    const int64_t length = static_cast<int64_t>(sound.samples.size());
    const std::vector<Interval> found = intervals(probability, length, threshold);
    auto seconds = [](int64_t samples) { return static_cast<double>(samples) / kRate; };
    if (common.json) {
      nlohmann::json speech = nlohmann::json::array();
      for (const Interval& interval : found)
        speech.push_back({seconds(interval.start), seconds(interval.end)});
      print_json({{"seconds", seconds(length)}, {"probabilities", probability}, {"speech", speech}});
    } else {
      int64_t total = 0;
      for (const Interval& interval : found) {
        std::printf("%8.2f s to %8.2f s\n", seconds(interval.start), seconds(interval.end));
        total += interval.end - interval.start;
      }
      std::printf("%.2f s of speech in %.2f s\n", seconds(total), seconds(length));
    }
    if (!output.empty()) write_png(plot(sound.samples, probability, found), output);
    return kOk;
  });
}
