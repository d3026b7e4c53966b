// Vectorised f32 loops over one row, dispatched to the machine's instruction set.
#pragma once

#include <cstdint>

namespace sardonyx::cpu {

// x = x * scale.
void scale_row(float* x, int64_t n, float scale);
// x = cap * tanh(x / cap).
void softcap_row(float* x, int64_t n, float cap);
// x = x + y.
void add_row(float* x, const float* y, int64_t n);
// x = allow ? x : -infinity; bytes of allow are 0 or 1.
void mask_row(float* x, const uint8_t* allow, int64_t n);
// y = a * y + b * x.
void axpby_row(float a, float* y, float b, const float* x, int64_t n);

}  // namespace sardonyx::cpu
