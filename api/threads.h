// How many CPUs this process may use.
#pragma once

namespace sardonyx {

// From the affinity mask and the cgroup's quota; at least 1.
int usable_cpus();

}  // namespace sardonyx
