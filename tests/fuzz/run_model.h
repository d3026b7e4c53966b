// What the fuzz target does with its bytes, shared with the replay of past crashes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sardonyx::test {

// Imports the bytes as a model, makes sessions with tight limits, and runs them on zeros and on small
// pseudo-random numbers, with the shapes of the inputs known beforehand and not. A sardonyx::Error is a good
// end; anything else escapes. A run that takes longer than a second is cancelled: what does not stop then is
// for the caller's own time limit to report.
void run_model(const uint8_t* data, size_t size);

}  // namespace sardonyx::test
