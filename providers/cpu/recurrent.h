// What the kernels of RNN, GRU and LSTM share: the validated node and its layout.
#pragma once

#include <vector>

#include "providers/cpu/support/gates.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

enum class Cell { Rnn, Gru, Lstm };

// Inputs: X W R B sequence_lens initial_h initial_c P. Outputs: Y Y_h Y_c.
struct Recurrent {
  Cell cell = Cell::Rnn;
  int64_t gates = 1;  // rows of W and R in units of `hidden`: i | z r h | i o f c
  int64_t steps = 0, batch = 0, input = 0, hidden = 0, directions = 1;
  bool reverse = false;  // the first direction runs backwards; the second always does
  bool batch_first = false;
  bool linear_before_reset = false;  // GRU
  bool input_forget = false;         // LSTM: the forget gate is 1 - input gate
  bool clips = false;
  float clip = 0;
  GateFunction functions[2][3];  // f g h of each direction

  bool backwards(int64_t direction) const { return direction == 1 || reverse; }
  int64_t x_row(int64_t t, int64_t b) const { return batch_first ? b * steps + t : t * batch + b; }
  // Offsets in Y, and in the initial and final states.
  int64_t y_at(int64_t t, int64_t direction, int64_t b) const {
    return (batch_first ? (b * steps + t) * directions + direction
                        : (t * directions + direction) * batch + b) *
           hidden;
  }
  int64_t state_at(int64_t direction, int64_t b) const {
    return (batch_first ? b * directions + direction : direction * batch + b) * hidden;
  }
  // Step s of a sequence of `length` stands at this time.
  int64_t time(int64_t s, int64_t length, int64_t direction) const {
    return backwards(direction) && s < length ? length - 1 - s : s;
  }
};

// Validates the node and declares its outputs.
Recurrent prepare_recurrent(PrepareContext& ctx, Cell cell);
// The length of each sequence of the batch; InputError for one outside [0, steps].
std::vector<int64_t> sequence_lengths(RunContext& run, const Recurrent& r);

// The vectorised kernel for f32.
Prepared prepare_recurrent_f32(PrepareContext& ctx, Cell cell);

}  // namespace sardonyx::cpu
