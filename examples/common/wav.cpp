#include "wav.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "program.h"

namespace examples {

namespace {

constexpr unsigned kPcm = 1, kFloat = 3, kExtensible = 0xFFFE;
constexpr double kCrossings = 16;  // zero crossings of the resampling filter on each side

uint64_t little_endian(std::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value |= uint64_t{static_cast<uint8_t>(bytes[at + i])} << 8 * i;
  return value;
}

// The first chunk of that name. A size that reaches beyond the file (of a recording that was cut off) means:
// all there is.
std::optional<std::string_view> find_chunk(std::string_view file, std::string_view name) {
  for (size_t place = 12; place + 8 <= file.size();) {
    const size_t size = little_endian(file, place + 4, 4);
    if (file.substr(place, 4) == name) return file.substr(place + 8, size);
    place += 8 + size + size % 2;
  }
  return std::nullopt;
}

double decode_sample(std::string_view body, size_t at, unsigned encoding, unsigned bits) {
  const uint64_t raw = little_endian(body, at, bits / 8);
  if (encoding == kFloat && bits == 32) {
    const uint32_t word = static_cast<uint32_t>(raw);
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }
  if (encoding == kFloat) {
    double value;
    std::memcpy(&value, &raw, sizeof value);
    return value;
  }
  if (bits == 8) return raw / 128.0 - 1;
  // The sample's sign bit becomes that of the 64-bit word.
  return static_cast<double>(static_cast<int64_t>(raw << (64 - bits))) / 9223372036854775808.0;
}

}  // namespace

Sound read_wav(const std::string& path) {
  const std::string file = read_file(path);
  if (file.size() < 12 || file.compare(0, 4, "RIFF") != 0 || file.compare(8, 4, "WAVE") != 0)
    throw std::runtime_error(path + ": not a WAV file: expected RIFF and WAVE at its start");
  const auto format = find_chunk(file, "fmt "), body = find_chunk(file, "data");
  if (!format || format->size() < 16 || !body)
    throw std::runtime_error(path + ": broken WAV file: expected a format and a data chunk");
  unsigned encoding = static_cast<unsigned>(little_endian(*format, 0, 2));
  const size_t channels = little_endian(*format, 2, 2);
  const uint64_t rate = little_endian(*format, 4, 4);
  const unsigned bits = static_cast<unsigned>(little_endian(*format, 14, 2));
  if (encoding == kExtensible && format->size() >= 26)
    encoding = static_cast<unsigned>(little_endian(*format, 24, 2));
  if (channels == 0 || rate < 1000 || rate > 1'000'000)
    throw std::runtime_error(path + ": broken WAV file: " + std::to_string(channels) + " channels at " +
                             std::to_string(rate) + " Hz");
  const bool pcm = encoding == kPcm && (bits == 8 || bits == 16 || bits == 24 || bits == 32);
  if (!pcm && !(encoding == kFloat && (bits == 32 || bits == 64)))
    throw std::runtime_error(path + ": WAV encoding " + std::to_string(encoding) + " with " +
                             std::to_string(bits) + " bits: expected PCM or float");

  Sound sound{static_cast<int>(rate), {}};
  const size_t width = bits / 8;
  sound.samples.resize(body->size() / (width * channels));
  for (size_t i = 0; i < sound.samples.size(); ++i) {
    double sum = 0;
    for (size_t c = 0; c < channels; ++c)
      sum += decode_sample(*body, (i * channels + c) * width, encoding, bits);
    if (!std::isfinite(sum))
      throw std::runtime_error(path + ": broken WAV file: a sample is not a finite number");
    sound.samples[i] = static_cast<float>(sum / static_cast<double>(channels));
  }
  return sound;
}

Sound resample(const Sound& sound, int rate) {
  if (sound.rate == rate) return sound;
  // A sinc under a Hann window, stretched when the rate goes down.
  const double step = static_cast<double>(sound.rate) / rate;
  const double cutoff = std::min(1.0, 1 / step);
  const double reach = kCrossings / cutoff;
  const int64_t length = static_cast<int64_t>(sound.samples.size());
  Sound result{rate, std::vector<float>((length * rate + sound.rate - 1) / sound.rate)};
  for (size_t i = 0; i < result.samples.size(); ++i) {
    const double position = static_cast<double>(i) * step;
    const int64_t first = std::max<int64_t>(0, static_cast<int64_t>(std::ceil(position - reach)));
    const int64_t last = std::min(length - 1, static_cast<int64_t>(std::floor(position + reach)));
    double sum = 0;
    for (int64_t j = first; j <= last; ++j) {
      const double distance = position - static_cast<double>(j);
      const double angle = std::numbers::pi * cutoff * distance;
      const double sinc = angle == 0 ? 1 : std::sin(angle) / angle;
      sum += sound.samples[j] * cutoff * sinc * (0.5 + 0.5 * std::cos(std::numbers::pi * distance / reach));
    }
    result.samples[i] = static_cast<float>(sum);
  }
  return result;
}

}  // namespace examples
