// Started before libgomp, which reads its environment when it starts: waiting threads spin for some tens
// of microseconds, as long as a short kernel on one thread takes, and then block, unless the user chose
// otherwise. libgomp's own choice is to spin for milliseconds: a thread that spins while its partner waits
// for a CPU makes a run 10 to 50 times slower on a busy machine or in a container with a quota, and a session
// at rest would burn CPU.
#include <cstdlib>

namespace {

constexpr const char* kTurns = "4000";
bool chosen_here = false;

[[gnu::constructor]] void choose() {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
  chosen_here = setenv("GOMP_SPINCOUNT", kTurns, 0) == 0;
}

}  // namespace

// Called once libgomp has read its environment, so that child processes do not inherit the choice.
extern "C" __attribute__((visibility("default"))) void sardonyx_forget_wait_policy() {
  if (chosen_here) unsetenv("GOMP_SPINCOUNT");
  chosen_here = false;
}
