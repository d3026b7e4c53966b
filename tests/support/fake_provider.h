// A device that is not there: its memory faults when the host touches it, and its queue runs late, on a
// thread of its own. It computes with the CPU's kernels. A runtime that forgets a copy or a wait crashes or
// answers wrongly on it, without any accelerator.
#pragma once

#include <memory>

#include "providers/provider.h"

namespace sardonyx::test {

// Makes the provider known under the name "fake".
void register_fake_provider();

}  // namespace sardonyx::test
