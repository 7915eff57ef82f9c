// A card's memory: counted, limited, cached, and the host memory that is pinned for it.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::IValue;

namespace pretend {
constexpr int MAX = 4;  // cards
int cards() {
  static int n = [] {
    auto* s = getenv("PRETEND_CARDS");
    return s ? atoi(s) : 1;
  }();
  return n;
}
// Bytes of each card. reserved: what the allocator keeps of freed memory, too, until the cache is emptied.
std::atomic<int64_t> used[MAX], peak[MAX], reserved[MAX], limit[MAX];
thread_local DeviceIndex now_device = 0;
using Callback = void (*)(const char*, const char*, int64_t);
std::atomic<Callback> callback{nullptr};
void tell(const char* kind, const char* what, int64_t bytes) {
  if (auto f = callback.load()) f(kind, what, bytes);
}

void raise_to(std::atomic<int64_t>& highest, int64_t now) {
  int64_t before = highest;
  while (now > before && !highest.compare_exchange_weak(before, now)) {}
}
// Count memory as taken, or refuse as a full card does: cached memory is taken back first, so it never stands in the way
void charge(DeviceIndex d, int64_t n) {
  int64_t now = used[d] += n;
  if (limit[d] > 0 && now > limit[d]) {
    used[d] -= n;
    TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", n, " bytes. GPU ", int(d),
                     " has a total capacity of ", limit[d].load(), " bytes of which ", limit[d].load() - now + n,
                     " is free.");
  }
  raise_to(peak[d], now);
  raise_to(reserved[d], now);
}
void empty_cache() {
  for (int d = 0; d < MAX; d++) reserved[d] = used[d].load();
}

// Memory of a card's own, and memory that a CPU kernel made and a card's tensor keeps
struct Block {
  void* raw;
  int64_t n;
  DeviceIndex d;
};
void free_block(void* c) {
  auto* b = static_cast<Block*>(c);
  used[b->d] -= b->n;
  free(b->raw);
  delete b;
}
struct Held {
  c10::Storage storage;
  int64_t n;
  DeviceIndex d;
};
void free_held(void* c) {
  auto* h = static_cast<Held*>(c);
  used[h->d] -= h->n;
  delete h;
}

struct CardAllocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t n) override {
    auto d = now_device;
    if (!n) return {nullptr, nullptr, &free_block, Device(c10::kCUDA, d)};
    charge(d, n);
    void* raw = nullptr;
    if (posix_memalign(&raw, 64, n)) throw std::bad_alloc();
    return {raw, new Block{raw, int64_t(n), d}, &free_block, Device(c10::kCUDA, d)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t n) const override { memcpy(to, from, n); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override { empty_cache(); }
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(DeviceIndex) override { return {}; }
  void resetAccumulatedStats(DeviceIndex) override {}
  void resetPeakStats(DeviceIndex) override {}
  std::pair<size_t, size_t> getMemoryInfo(DeviceIndex d) override { return {limit[d] - reserved[d], limit[d]}; }
};
CardAllocator& card_allocator() {
  static auto* a = new CardAllocator;
  return *a;
}

// Pinned host memory
std::mutex pinned_lock;
std::map<const char*, size_t> pinned;
struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    void* raw = nullptr;
    if (posix_memalign(&raw, 64, n ? n : 1)) throw std::bad_alloc();
    {
      std::lock_guard<std::mutex> g(pinned_lock);
      pinned[static_cast<char*>(raw)] = n;
    }
    return {raw, raw,
            [](void* p) {
              {
                std::lock_guard<std::mutex> g(pinned_lock);
                pinned.erase(static_cast<char*>(p));
              }
              free(p);
            },
            Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t n) const override { memcpy(to, from, n); }
};
bool is_pinned(const void* p) {
  std::lock_guard<std::mutex> g(pinned_lock);
  auto it = pinned.upper_bound(static_cast<const char*>(p));
  if (it == pinned.begin()) return false;
  --it;
  return static_cast<const char*>(p) < it->first + std::max<size_t>(it->second, 1);
}
}  // namespace pretend
