// The updates of optimizers over n elements of f32, dispatched to the machine's instruction set. Outputs may
// be the inputs of the same name.
#pragma once

#include <cstdint>

namespace sardonyx::cpu {

// Numbers of one step, in f32.
struct SgdStep {
  float rate, momentum, undamped, weight_decay, scale;  // scale: of the gradient, negative to maximize
  bool nesterov, first;
};
// buffer may be null.
void sgd_row(const SgdStep& s, const float* x, const float* g, const float* buffer, float* x_new,
             float* buffer_new, int64_t n);

struct AdamWStep {
  float kept, beta1, beta2, rest1, rest2, scale;  // kept: 1 - rate * weight decay; rest: 1 - beta
  float step, inverse_root, epsilon;              // rate / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
};
// largest (and largest_new) may be null.
void adamw_row(const AdamWStep& s, const float* x, const float* g, const float* m, const float* v,
               const float* largest, float* x_new, float* m_new, float* v_new, float* largest_new, int64_t n);

}  // namespace sardonyx::cpu
