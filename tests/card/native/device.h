// What torch asks about CUDA devices: generators, hooks, and the guard with its streams and events.
#pragma once
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <string>

#include "memory.h"

namespace pretend {
// The CPU's generator under a card's name
struct CardGenerator final : c10::GeneratorImpl {
  at::Generator inner;
  explicit CardGenerator(DeviceIndex d)
      : c10::GeneratorImpl(Device(c10::kCUDA, d), c10::DispatchKeySet(c10::DispatchKey::CUDA)),
        inner(at::make_generator<at::CPUGeneratorImpl>(c10::default_rng_seed_val)) {}
  void set_current_seed(uint64_t s) override { inner.set_current_seed(s); }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& s) override { inner.unsafeGetGeneratorImpl()->set_state(s); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return inner.unsafeGetGeneratorImpl()->get_state(); }
  c10::GeneratorImpl* clone_impl() const override {
    auto* copy = new CardGenerator(device().index());
    copy->inner = inner.clone();
    return copy;
  }
};
at::Generator first_generator[MAX];

struct CardHooks final : at::CUDAHooksInterface {
  explicit CardHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return cards() > 0; }
  bool hasCUDA() const override { return true; }
  bool hasCUDART() const override { return true; }
  DeviceIndex deviceCount() const override { return cards(); }
  int getNumGPUs() const override { return cards(); }
  DeviceIndex current_device() const override { return now_device; }
  DeviceIndex getCurrentDevice() const override { return now_device; }
  void setCurrentDevice(DeviceIndex d) const override { now_device = d; }
  DeviceIndex exchangeDevice(DeviceIndex d) const override {
    auto was = now_device;
    now_device = d;
    return was;
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex d) const override { return exchangeDevice(d); }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  Device getDeviceFromPtr(void*) const override { return Device(c10::kCUDA, 0); }
  bool isPinnedPtr(const void* p) const override { return is_pinned(p); }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static auto* a = new PinnedAllocator;
    return a;
  }
  c10::Allocator* getCUDADeviceAllocator() const override { return &card_allocator(); }
  at::Generator getNewGenerator(DeviceIndex d) const override {
    if (d < 0) d = now_device;
    auto g = at::make_generator<CardGenerator>(d);
    if (!first_generator[d].defined()) first_generator[d] = g;
    return g;
  }
  const at::Generator& getDefaultGenerator(DeviceIndex d) const override {
    if (d < 0) d = now_device;
    if (!first_generator[d].defined()) getNewGenerator(d);
    return first_generator[d];
  }
  void deviceSynchronize(DeviceIndex) const override { tell("sync", "deviceSynchronize", 0); }
  std::string showConfig() const override { return "pretend"; }
};
}  // namespace pretend
namespace at {
using PretendHooks = pretend::CardHooks;
C10_REGISTER_TYPED_CLASS(CUDAHooksRegistry, "CUDAHooks", PretendHooks);
}  // namespace at
namespace pretend {

// Work is done at once, so a stream is a number: nothing waits for it, and a wait is only told
thread_local c10::StreamId now_stream[MAX] = {0, 0, 0, 0};
std::atomic<c10::StreamId> next_stream{1};
struct CardGuard final : c10::impl::DeviceGuardImplInterface {
  static Device d(Device x) { return Device(c10::kCUDA, x.index() < 0 ? now_device : x.index()); }
  c10::DeviceType type() const override { return c10::kCUDA; }
  Device exchangeDevice(Device x) const override {
    auto was = now_device;
    if (x.index() >= 0) now_device = x.index();
    return Device(c10::kCUDA, was);
  }
  Device getDevice() const override { return Device(c10::kCUDA, now_device); }
  void setDevice(Device x) const override {
    if (x.index() >= 0) now_device = x.index();
  }
  void uncheckedSetDevice(Device x) const noexcept override {
    if (x.index() >= 0) now_device = x.index();
  }
  c10::Stream getStream(Device x) const override {
    return c10::Stream(c10::Stream::UNSAFE, d(x), now_stream[d(x).index()]);
  }
  c10::Stream getDefaultStream(Device x) const override { return c10::Stream(c10::Stream::UNSAFE, d(x), 0); }
  c10::Stream getStreamFromGlobalPool(Device x, bool) const override { return getNewStream(x, 0); }
  c10::Stream getNewStream(Device x, int) const override {
    return c10::Stream(c10::Stream::UNSAFE, d(x), next_stream++);
  }
  c10::Stream exchangeStream(c10::Stream s) const override {
    auto i = s.device_index();
    auto was = now_stream[i];
    now_stream[i] = s.id();
    return c10::Stream(c10::Stream::UNSAFE, s.device(), was);
  }
  void record(void** event, const c10::Stream&, const DeviceIndex, const c10::EventFlag) const override {
    static int one;
    *event = &one;
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  DeviceIndex deviceCount() const noexcept override { return cards(); }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { tell("sync", "synchronizeStream", 0); }
  void synchronizeEvent(void*) const override { tell("sync", "synchronizeEvent", 0); }
  void synchronizeDevice(const DeviceIndex) const override { tell("sync", "synchronizeDevice", 0); }
  double elapsedTime(void*, void*, const DeviceIndex) const override { return 0; }
};
C10_REGISTER_GUARD_IMPL(CUDA, CardGuard)
struct Registrar {
  Registrar() { c10::SetAllocator(c10::kCUDA, &card_allocator()); }
} registrar;
}  // namespace pretend
