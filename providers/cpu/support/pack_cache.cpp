#include "providers/cpu/support/pack_cache.h"

#include <map>
#include <mutex>
#include <tuple>

#include "graph/shape.h"

namespace sardonyx::cpu {

std::shared_ptr<Buffer> packed_constant(const Tensor& source, const std::string& layout, int64_t floats,
                                        const std::function<void(float*)>& pack) {
  struct Entry {
    std::weak_ptr<Buffer> source, packed;
  };
  static std::mutex mutex;
  static std::map<std::tuple<const Buffer*, size_t, std::string>, Entry> entries;
  const auto key = std::make_tuple(source.buffer().get(), source.offset(), layout);
  std::lock_guard lock(mutex);
  if (const auto found = entries.find(key); found != entries.end()) {
    // An address may have been given to another buffer since: the owner decides.
    if (auto packed = found->second.packed.lock(); packed && found->second.source.lock() == source.buffer())
      return packed;
  }
  std::erase_if(
      entries, [](const auto& item) { return item.second.packed.expired() || item.second.source.expired(); });
  auto packed = Buffer::host(static_cast<size_t>(checked_mul(floats, sizeof(float), "packed weights")));
  pack(static_cast<float*>(packed->data()));
  entries[key] = {source.buffer(), packed};
  return packed;
}

}  // namespace sardonyx::cpu
