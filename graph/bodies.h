// Bodies (If, Loop, Scan, ...) as a pass sees them.
#pragma once

#include <functional>

#include "graph/patch.h"

namespace sardonyx {

bool has_bodies(const Node& node);

// Applies `pass` to the bodies of every node of patch.before(); captured constants become constants of the
// body first.
void rewrite_bodies(Patch& patch, const std::function<GraphPtr(const GraphPtr&)>& pass);

}  // namespace sardonyx
