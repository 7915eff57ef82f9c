// The two ways between a card's tensors and the CPU's: the same memory under another name.
#pragma once
#include <unordered_map>
#include <utility>
#include <vector>

#include "memory.h"

namespace pretend {
struct Aliases {
  std::unordered_map<c10::TensorImpl*, Tensor> host_of;  // card tensor -> CPU tensor on its memory
  std::unordered_map<c10::TensorImpl*, Tensor> card_of;  // and back
  std::unordered_map<c10::StorageImpl*, c10::Storage> host_storage, card_storage;
  std::vector<std::pair<Tensor, Tensor>> pairs;  // (card, host)

  Tensor host(const Tensor& t) {
    auto found = host_of.find(t.unsafeGetTensorImpl());
    if (found != host_of.end()) return found->second;
    c10::Storage own = t.storage();
    auto* key = own.unsafeGetStorageImpl();
    auto it = host_storage.find(key);
    if (it == host_storage.end()) {
      c10::DataPtr p(
          own.mutable_data(), new c10::Storage(own), [](void* c) { delete static_cast<c10::Storage*>(c); },
          Device(c10::kCPU));
      c10::Storage made(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), own.nbytes(),
                                                              std::move(p), c10::GetAllocator(c10::kCPU), true));
      card_storage.emplace(made.unsafeGetStorageImpl(), own);
      it = host_storage.emplace(key, made).first;
    }
    Tensor a = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(it->second),
                                                        c10::DispatchKeySet(c10::DispatchKey::CPU), t.dtype());
    a.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
    if (t.is_conj()) a._set_conj(true);
    if (t.is_neg()) a._set_neg(true);
    if (t.unsafeGetTensorImpl()->is_wrapped_number()) a.unsafeGetTensorImpl()->set_wrapped_number(true);
    host_of.emplace(t.unsafeGetTensorImpl(), a);
    card_of.emplace(a.unsafeGetTensorImpl(), t);
    pairs.emplace_back(t, a);
    return a;
  }
};

Tensor make_card(c10::Storage s, const Tensor& like) {
  Tensor t =
      at::detail::make_tensor<c10::TensorImpl>(std::move(s), c10::DispatchKeySet(c10::DispatchKey::CUDA), like.dtype());
  t.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.is_conj()) t._set_conj(true);
  if (like.is_neg()) t._set_neg(true);
  return t;
}
c10::Storage adopt(const c10::Storage& host, DeviceIndex d) {
  int64_t n = host.nbytes();
  charge(d, n);
  c10::DataPtr p(host.mutable_data(), new Held{host, n, d}, &free_held, Device(c10::kCUDA, d));
  return c10::Storage(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), n, std::move(p),
                                                            &card_allocator(), true));
}
}  // namespace pretend
