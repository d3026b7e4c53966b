// One step of a recurrent cell backward, for n hidden units of one sequence. T: float, double; vectorised.
#pragma once

#include <cstdint>

namespace sardonyx::cpu {

// y[i] = sigmoid(x[i]) for i < n, then tanh for `tanhs` more.
template <typename T>
void activate_gates(const T* x, T* y, int64_t n, int64_t tanhs);

// The gates of all rows here: input, output, forget and new cell after their functions. `gates` is replaced
// by the gradients of what went into the functions; rows of gates are `stride` apart.
// c = forget * before + input * fresh, t = tanh(c).
template <typename T>
void lstm_cell(const T* gates, int64_t stride, const T* before, T* c, T* t, int64_t n);
// dc: by the cell after the step; becomes that by the cell before.
template <typename T>
void lstm_backward(T* gates, int64_t stride, const T* before, const T* t, const T* dh, T* dc, int64_t n);

// The gates z, r and n of rows of what X and the state contribute; rows are `stride` apart.
template <typename T>
void gru_gates(const T* x, const T* h, T* gates, int64_t stride, int64_t n);
// `gates` is replaced by the gradients of what X contributed, `d_h` gets those of what the state did; h: what
// it contributed to n. `carry` gets what goes to the state before beside the products.
template <typename T>
void gru_backward(T* gates, T* d_h, int64_t stride, const T* h, const T* before, const T* dh, T* carry,
                  int64_t n);

// d[i] = dh[i] * (1 - y[i]^2)
template <typename T>
void rnn_backward(const T* y, const T* dh, T* d, int64_t n);

}  // namespace sardonyx::cpu
