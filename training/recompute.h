// Less memory for more arithmetic: forward values that the backward pass computes again (gradient
// checkpointing: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016).
#pragma once

#include <string>
#include <vector>

#include "graph/builder.h"

namespace sardonyx {

// Where a graph may be cut so that one value crosses and little else but what lives for longer than a piece
// does anyway, in order: the names of `pieces` - 1 of them, or fewer where there are not as many, that split
// the bytes of its values as evenly as they can. Unknown dims count as 1.
std::vector<std::string> cut_points(const Graph& forward, int pieces);

// The most bytes of what nodes make that are alive at once when they run in this order; an estimate of what
// a plan needs, which knows nothing of nodes computed together or of kernels' own memory. Values written over
// inputs (Graph::updates) need none. Unknown dims count as 1.
double live_bytes(const Graph& graph);

// Of a builder whose first `forward` nodes are the forward pass and the others the backward pass: the values
// between the cuts are dropped when the forward pass is done with them, and made again, piece by piece, when
// the backward pass comes to them. What lies behind the last cut stays. InputError for a name that no forward
// node makes.
void recompute(GraphBuilder& builder, size_t forward, const std::vector<std::string>& cuts);

}  // namespace sardonyx
