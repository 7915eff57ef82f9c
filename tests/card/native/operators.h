// Any operation on a card's tensors: refuse what a card refuses, then run the CPU's kernel on the same memory.
#pragma once
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>
#include <string>
#include <unordered_set>

#include "aliases.h"
#include "device.h"

namespace pretend {
using Names = std::unordered_set<std::string>;

// Whose operands may be a CPU tensor without dimensions (TensorIterator with allow_cpu_scalars)
bool takes_cpu_scalars(const std::string& name) {
  static const Names names = [] {
    Names all;
    for (auto s :
         {"add", "sub", "rsub", "mul", "div", "pow", "eq", "ne", "lt", "le", "gt", "ge", "where", "maximum", "minimum",
          "fmax", "fmin", "atan2", "fmod", "remainder", "bitwise_and", "bitwise_or", "bitwise_xor", "logical_and",
          "logical_or", "logical_xor", "floor_divide", "true_divide", "lerp", "addcmul", "addcdiv", "clamp",
          "clamp_min", "clamp_max", "masked_fill", "fill", "xlogy", "hypot", "copysign", "copy", "_foreach_mul",
          "_foreach_div", "_foreach_add", "_index_put_impl", "index_put", "index_fill"}) {
      all.insert(s);
      all.insert(std::string(s) + "_");
    }
    return all;
  }();
  return names.count(name.substr(name.find("::") + 2));
}
const Names INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_",
                        "aten::_unsafe_index"};
// The host waits for these, because the size of their result is in their values
const Names WAITS = {"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim",
                     "aten::unique_consecutive", "aten::repeat_interleave.Tensor", "aten::equal", "aten::bincount",
                     "aten::linalg_eigh", "aten::_linalg_eigh", "aten::_linalg_svd", "aten::linalg_eig",
                     "aten::histc"};
// A CPU is hundreds of times slower in half precision here than in float32
const Names WIDENS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::convolution",
                      "aten::convolution_backward", "aten::_convolution"};

bool is_half(const Tensor& t) {
  return t.scalar_type() == at::kHalf || t.scalar_type() == at::kBFloat16;
}

// Call f with each tensor in a value
template <typename F>
void each_tensor(const IValue& v, F f) {
  if (v.isTensor()) f(v.toTensor());
  else if (v.isTensorList()) for (const Tensor& t : v.toTensorList()) f(t);
  else if (v.isOptionalTensorList())
    for (const std::optional<Tensor>& t : v.toOptionalTensorList()) if (t) f(*t);
}

// The value with f of each of its tensors in its place
template <typename F>
IValue with_tensors(const IValue& v, F f) {
  if (v.isTensor()) return v.toTensor().defined() ? IValue(f(v.toTensor())) : v;
  if (v.isTensorList()) {
    c10::List<Tensor> l;
    for (const Tensor& t : v.toTensorList()) l.push_back(f(t));
    return l;
  }
  if (v.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> l;
    for (const std::optional<Tensor>& t : v.toOptionalTensorList())
      l.push_back(t ? std::optional<Tensor>(f(*t)) : std::nullopt);
    return l;
  }
  return v;
}

// One operation. stack: its arguments from `start` on, in their place its results afterwards
class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack* stack)
      : op(op), stack(stack), schema(op.schema()), name(schema.name()), count(schema.arguments().size()),
        start(stack->size() - count),
        full(schema.overload_name().empty() ? name : name + "." + schema.overload_name()) {}

  void run() {
    find_card();
    for (size_t i = 0; i < count; i++) each_tensor(argument(i), [&](const Tensor& t) { refuse(t, i); });
    tell_waits();
    at::AutoDispatchBelowADInplaceOrView below;
    for (size_t i = 0; i < count; i++) argument(i) = on_host(argument(i), i);
    kept.assign(stack->begin() + start, stack->end());
    compute();
    if (lowered) put_back_halves();
    put_back_storages();
    for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); i++)
      (*stack)[i] = with_tensors((*stack)[i], [&](const Tensor& t) { return to_card(t); });
  }

 private:
  const c10::OperatorHandle& op;
  torch::jit::Stack* stack;
  const c10::FunctionSchema& schema;
  const std::string& name;
  size_t count, start;
  std::string full;
  std::optional<Device> card;
  DeviceIndex index = 0;
  Aliases aliases;
  std::vector<IValue> kept;                                 // the arguments on the host
  std::unordered_map<c10::TensorImpl*, Tensor> wide, narrow;  // half tensor -> its float32 copy, and back
  at::ScalarType low = at::kHalf;
  bool stays_wide = false, lowered = false;

  IValue& argument(size_t i) { return (*stack)[start + i]; }
  bool writes(size_t i) const {
    const auto& argument = schema.arguments()[i];
    return argument.alias_info() && argument.alias_info()->isWrite();
  }
  bool takes_generator(size_t i) const {
    const auto& type = schema.arguments()[i].type();
    return type->kind() == c10::TypeKind::OptionalType &&
           type->castRaw<c10::OptionalType>()->getElementType()->kind() == c10::TypeKind::GeneratorType;
  }

  void find_card() {
    for (size_t i = 0; i < count && !card; i++) {
      each_tensor(argument(i), [&](const Tensor& t) { if (t.defined() && t.is_cuda() && !card) card = t.device(); });
      if (!card && argument(i).isDevice() && argument(i).toDevice().is_cuda()) card = argument(i).toDevice();
    }
    index = card && card->index() >= 0 ? card->index() : now_device;
  }

  void refuse(const Tensor& t, size_t i) {
    if (!t.defined() || !card || t.device() == *card) return;
    const auto& argument = schema.arguments()[i];
    if (t.device().is_cpu()) {
      if (INDEXING.count(name) && argument.name() == "indices") return tell("sync", "CPU indices copied", t.nbytes());
      if (t.dim() == 0 && !writes(i) && takes_cpu_scalars(name)) return;
    }
    tell("refused", name.c_str(), 0);
    TORCH_CHECK(false, "Expected all tensors to be on the same device, but got ", argument.name(), " is on ",
                t.device(), ", different from other tensors on ", *card, " (when checking argument in method wrapper_CUDA_",
                name, ")");
  }

  void tell_waits() {
    if (WAITS.count(name) || WAITS.count(full)) tell("sync", full.c_str(), 0);
    if (INDEXING.count(name))
      each_tensor(argument(1), [&](const Tensor& t) {
        if (t.defined() && t.is_cuda() && (t.scalar_type() == at::kBool || t.scalar_type() == at::kByte))
          tell("sync", (full + " by mask").c_str(), 0);
      });
  }

  IValue on_host(const IValue& v, size_t i) {
    if (v.isDevice()) return v.toDevice().is_cuda() ? IValue(Device(c10::kCPU)) : v;
    if (v.isGenerator()) {
      auto g = v.toGenerator();
      TORCH_CHECK(g.device().is_cuda(), "Expected a 'cuda' device type for generator but found '", g.device().type(),
                  "'");
      TORCH_CHECK(g.device().index() == index, "Expected a '", *card, "' generator but found '", g.device(), "'");
      return static_cast<CardGenerator*>(g.unsafeGetGeneratorImpl())->inner;
    }
    if (v.isNone() && takes_generator(i)) {
      auto& own = at::detail::getCUDAHooks().getDefaultGenerator(index);
      return static_cast<CardGenerator*>(own.unsafeGetGeneratorImpl())->inner;
    }
    return with_tensors(v, [&](const Tensor& t) { return t.defined() && t.is_cuda() ? aliases.host(t) : t; });
  }

  void compute() {
    auto kernel = [&] { op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack); };
    bool any_half = false;
    for (auto& pair : aliases.pairs) any_half |= is_half(pair.second);
    if (any_half && WIDENS.count(name)) {
      widen();
      return kernel();
    }
    try {
      kernel();
    } catch (const c10::Error& e) {
      std::string what = e.what_without_backtrace();
      auto says = [&](const char* words) { return what.find(words) != std::string::npos; };
      if (!says("not implemented for 'Half'") && !says("not implemented for 'BFloat16'") &&
          !says("not supported on CPU"))
        throw;
      tell("widened", full.c_str(), 0);
      widen();
      kernel();
    }
  }

  // Put the arguments on the stack again, in float32 where they are of half precision
  void widen() {
    lowered = true;
    stack->resize(start);
    for (size_t i = 0; i < count; i++) {
      const auto& v = kept[i];
      const auto& argument = schema.arguments()[i].name();
      if (v.isBool() && v.toBool() && argument == "half_to_float") {
        stays_wide = true;
        stack->push_back(false);
      } else if (v.isInt() && argument == "dtype" &&
                 (v.toInt() == int64_t(at::kHalf) || v.toInt() == int64_t(at::kBFloat16))) {
        low = at::ScalarType(v.toInt());
        stack->push_back(int64_t(at::kFloat));
      } else {
        stack->push_back(with_tensors(v, [&](const Tensor& t) { return widened(t); }));
      }
    }
  }

  Tensor widened(const Tensor& t) {
    if (!t.defined() || !is_half(t)) return t;
    low = t.scalar_type();
    auto it = wide.find(t.unsafeGetTensorImpl());
    if (it == wide.end()) {
      Tensor w = t.to(at::kFloat);
      it = wide.emplace(t.unsafeGetTensorImpl(), w).first;
      narrow.emplace(w.unsafeGetTensorImpl(), t);
    }
    return it->second;
  }

  // Bring back what was written into float32 copies
  void put_back_halves() {
    for (auto& pair : aliases.pairs) {
      auto it = wide.find(pair.second.unsafeGetTensorImpl());
      if (it == wide.end()) continue;
      if (it->second.sizes() != pair.second.sizes()) pair.second.resize_(it->second.sizes());
      for (size_t i = 0; i < count; i++) {
        bool written = false;
        if (writes(i)) each_tensor(kept[i], [&](const Tensor& t) { written |= t.is_same(pair.second); });
        if (written) pair.second.copy_(it->second);
      }
    }
  }

  // Follow what the kernel resized, and the memory that it took for that
  void put_back_storages() {
    for (auto& [t, h] : aliases.pairs) {
      auto* s = h.storage().unsafeGetStorageImpl();
      auto it = aliases.card_storage.find(s);
      bool same_memory = it != aliases.card_storage.end() && s->data() == it->second.data();
      if (!same_memory && (s->nbytes() || t.storage().nbytes())) {
        c10::Storage fresh = adopt(h.storage(), index);
        t.unsafeGetTensorImpl()->set_storage_keep_dtype(fresh);
        aliases.card_storage[s] = fresh;
      }
      if (h.sizes() != t.sizes() || h.strides() != t.strides())
        t.unsafeGetTensorImpl()->set_sizes_and_strides(h.sizes(), h.strides(), h.storage_offset());
    }
  }

  // A result as a tensor of the card
  Tensor to_card(Tensor h) {
    if (!h.defined()) return h;
    if (lowered) {
      auto it = narrow.find(h.unsafeGetTensorImpl());
      if (it != narrow.end()) h = it->second;
      else if (!stays_wide && h.scalar_type() == at::kFloat && !aliases.card_of.count(h.unsafeGetTensorImpl()))
        h = h.to(low);
    }
    auto it = aliases.card_of.find(h.unsafeGetTensorImpl());
    if (it != aliases.card_of.end()) return it->second;
    auto known = aliases.card_storage.find(h.storage().unsafeGetStorageImpl());
    if (known != aliases.card_storage.end()) return make_card(known->second, h);
    c10::Storage made = adopt(h.storage(), index);
    aliases.card_storage.emplace(h.storage().unsafeGetStorageImpl(), made);
    return make_card(made, h);
  }
};
}  // namespace pretend
