// Started before libgomp, which reads its environment when it starts: waiting threads block instead of
// spinning, unless the user chose otherwise. A thread that spins while its partner waits for a CPU makes a
// run 10 to 50 times slower on a busy machine or in a container with a quota, and a session at rest would
// burn CPU.
#include <cstdlib>

namespace {

bool chosen_here = false;

[[gnu::constructor]] void choose() {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
  chosen_here = setenv("OMP_WAIT_POLICY", "passive", 0) == 0;
}

}  // namespace

// Called once libgomp has read its environment, so that child processes do not inherit the choice.
extern "C" __attribute__((visibility("default"))) void sardonyx_forget_wait_policy() {
  if (chosen_here) unsetenv("OMP_WAIT_POLICY");
  chosen_here = false;
}
