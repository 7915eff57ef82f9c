// A pretend CUDA card for a torch without CUDA: its dispatch key, hooks, guard, allocator and generators, on malloc.
// Every operation first refuses what a card refuses (mixed devices), then runs the CPU's kernel on the same memory.
#include <ATen/EmptyTensor.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>

#include "operators.h"

namespace pretend {
// What needs a kernel of its own
Tensor empty_format(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                    std::optional<Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::DeviceGuard guard(CardGuard::d(device.value_or(Device(c10::kCUDA))));
  TORCH_CHECK(now_device < cards(), "CUDA error: invalid device ordinal");
  return at::detail::empty_generic(size, &card_allocator(), c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   c10::dtype_or_default(dtype), format);
}
Tensor empty_strides(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<Device> device, std::optional<bool>) {
  c10::DeviceGuard guard(CardGuard::d(device.value_or(Device(c10::kCUDA))));
  TORCH_CHECK(now_device < cards(), "CUDA error: invalid device ordinal");
  return at::detail::empty_strided_generic(size, stride, &card_allocator(), c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                           c10::dtype_or_default(dtype));
}
Tensor& copy(Tensor& self, const Tensor& src, bool non_blocking) {
  if (self.is_same(src)) return self;
  if (self.is_meta()) return self;
  if (self.is_cpu()) {
    bool soft = non_blocking && is_pinned(self.storage().data());
    tell(soft ? "async" : "sync", soft ? "device to host, not waited for" : "device to host", src.nbytes());
  } else if (src.is_cpu()) {
    bool soft = non_blocking;
    tell(soft ? "async" : "sync",
         soft ? (is_pinned(src.storage().data()) ? "host to device, pinned" : "host to device, pageable")
              : "host to device",
         src.nbytes());
  }
  at::AutoDispatchBelowADInplaceOrView below;
  Aliases a;
  Tensor to = self.is_cuda() ? a.host(self) : self, from = src.is_cuda() ? a.host(src) : src;
  to.copy_(from);
  return self;
}
at::Scalar local_scalar(const Tensor& self) {
  tell("sync", "item", self.nbytes());
  at::AutoDispatchBelowADInplaceOrView below;
  Aliases a;
  return at::_local_scalar_dense(a.host(self));
}
Tensor& set_empty(Tensor& self) {
  c10::DeviceGuard guard(self.device());
  c10::Storage s(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), 0,
                                                       card_allocator().allocate(0), &card_allocator(), true));
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(s);
  self.unsafeGetTensorImpl()->set_sizes_contiguous({0});
  return self;
}
Tensor& set_storage(Tensor& self, c10::Storage s, int64_t offset, c10::IntArrayRef size, c10::IntArrayRef stride) {
  TORCH_CHECK(s.device() == self.device(), "Attempted to set the storage of a tensor on device \"", self.device(),
              "\" to a storage on different device \"", s.device(), "\"");
  return at::native::set_storage_cpu_(self, s, offset, size, stride);
}
Tensor& set_tensor(Tensor& self, const Tensor& src) {
  return at::native::set_tensor_(self, src);
}
Tensor& set_source(Tensor& self, c10::Storage s) {
  return at::native::set_(self, s);
}
void record_stream(Tensor&, c10::Stream) {}
Tensor strided(const Tensor& t, c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(t, size, stride, offset);
}
Tensor viewed(const Tensor& t, c10::IntArrayRef size) {
  return at::native::view(t, size);
}
Tensor aliased(const Tensor& t, c10::IntArrayRef size, c10::IntArrayRef stride) {
  return at::native::_reshape_alias(t, size, stride);
}
Tensor unfolded(const Tensor& t, int64_t dim, int64_t size, int64_t step) {
  return at::native::unfold(t, dim, size, step);
}
const Tensor& resized(const Tensor& t, c10::IntArrayRef size, std::optional<at::MemoryFormat> f) {
  c10::DeviceGuard guard(t.device());
  return at::native::resize_(t, size, f);
}

void any_other(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  Call(op, stack).run();
}

TORCH_LIBRARY_IMPL(_, CUDA, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&any_other>());
}
TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty_format);
  m.impl("empty_strided", &empty_strides);
  m.impl("copy_", &copy);
  m.impl("_local_scalar_dense", &local_scalar);
  m.impl("set_", &set_empty);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("set_.source_Storage", &set_source);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("record_stream", &record_stream);
  m.impl("as_strided", &strided);
  m.impl("view", &viewed);
  m.impl("_reshape_alias", &aliased);
  m.impl("unfold", &unfolded);
  m.impl("resize_", &resized);
  for (auto name : {"convolution", "convolution_backward"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&any_other>());
}
}  // namespace pretend

using namespace pretend;
extern "C" {
void pretend_callback(Callback f) {
  callback = f;
}
int pretend_cards() {
  return cards();
}
int64_t pretend_used(int d) {
  return used[d];
}
int64_t pretend_reserved(int d) {
  return reserved[d];
}
void pretend_empty_cache() {
  empty_cache();
}
int64_t pretend_peak(int d) {
  return peak[d];
}
void pretend_reset_peak(int d) {
  peak[d] = used[d].load();
}
void pretend_limit(int d, int64_t n) {
  limit[d] = n;
}
int64_t pretend_get_limit(int d) {
  return limit[d];
}
int pretend_device() {
  return now_device;
}
void pretend_set_device(int d) {
  now_device = d;
}
}