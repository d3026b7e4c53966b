// The schemas of this project's own operators, beside ONNX's.
#pragma once

namespace sardonyx {

// After it ONNX's registry knows the operators of kOwnDomain as well: import, checks and inference treat them
// like any other. Besides "T" a port may have type "V" or "W", any tensor. Made from what ops/<family>.cpp says with Operator::ports. Thread-safe, done once.
void with_own_schemas();

}  // namespace sardonyx
