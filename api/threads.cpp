#include "api/threads.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace sardonyx {

int usable_cpus() {
  int count = 1;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) count = std::max(1, CPU_COUNT(&set));
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (file >> quota >> period && quota != "max" && period > 0) {
    const double cpus = std::stod(quota) / period;
    count = std::clamp(static_cast<int>(cpus + 0.999), 1, count);
  }
  return count;
}

}  // namespace sardonyx
