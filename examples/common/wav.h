// WAV files.
#pragma once

#include <string>
#include <vector>

namespace examples {

struct Sound {
  int rate = 0;                // samples a second
  std::vector<float> samples;  // one channel (the mean of all), from -1 to 1
};

// PCM of 8, 16, 24 or 32 bits or float of 32 or 64. std::runtime_error for anything else.
Sound read_wav(const std::string& path);
// The sound at another rate, low-passed below half the lower of both.
Sound resample(const Sound& sound, int rate);

}  // namespace examples
