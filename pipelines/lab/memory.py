"""What a training step costs in memory, found without spending it.

The step is rehearsed with tensors that have shapes but no contents (torch's FakeTensorMode), and a ledger counts the
bytes that are alive after every operation. So nothing is estimated by rule of thumb but the optimizer's states.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..models.optimizer_state import state_bytes as optimizer_bytes

Precision = Literal["float32", "mixed", "bfloat16"]
Optimizer = Literal["sgd", "adamw", "adamw8bit", "adafactor"]
HOOKS = ("_hf_hook", "_old_forward", "_diffusers_hook", "forward")  # attributes of accelerate's and diffusers' hooks


@dataclass(frozen=True)
class Plan:
    """A way to train. precision: "mixed" keeps float32 weights and computes in bfloat16. side: of the pictures, px."""

    batch_size: int = 1
    side: int = 512
    precision: Precision = "float32"
    accumulation: int = 1
    checkpointing: bool = False
    optimizer: Optimizer = "adamw"


@dataclass(frozen=True)
class Cost:
    """Bytes. passing: the most that is alive of activations, gradients and copies during forward and backward."""

    weights: int
    gradients: int
    optimizer: int
    passing: int

    @property
    def peak(self) -> int:
        """The highest of a whole update: during the passes, or while the optimizer holds all gradients."""
        return self.weights + self.optimizer + max(self.passing, self.gradients)


Step = Callable[[nn.Module, Plan], Tensor]  # (model, plan) -> loss of one batch; makes its own inputs


def cost(model: nn.Module, plan: Plan, step: Step, whole: bool = False, where: torch.device | None = None) -> Cost:
    """Rehearse one update of a model, which is not touched.

    Weights without requires_grad count as frozen, unless the whole model is to be trained. where: the device that is
    trained on, when it is not where the weights wait.
    """
    fake = FakeTensorMode()
    twin = _twin(model, fake, torch.bfloat16 if plan.precision == "bfloat16" else None, where)
    twin = twin.requires_grad_() if whole else twin
    with fake:
        if plan.checkpointing:
            twin.enable_gradient_checkpointing()
        device = next(twin.parameters()).device.type
        with Ledger() as ledger:
            for _ in range(min(plan.accumulation, 2)):  # the second finds the first one's gradients
                with torch.autocast(device, torch.bfloat16, enabled=plan.precision == "mixed", cache_enabled=False):
                    loss = step(twin, plan)
                loss.backward()
                del loss
        trained = [p for p in twin.parameters() if p.requires_grad]
        return Cost(_bytes([*twin.parameters(), *twin.buffers()]), _bytes(trained),
                    optimizer_bytes(plan.optimizer, trained), ledger.peak)


class Ledger(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, while they live. peak: the highest sum so far."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        out = func(*args, **(kwargs or {}))
        old = {one.untyped_storage()._cdata for one in given}
        for one in tree_leaves(out):
            if isinstance(one, Tensor) and one.untyped_storage()._cdata not in old:
                self._enter(one.untyped_storage())
        return out

    def _enter(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def measured(run: Callable[[], object], device: str = "cpu") -> int:
    """Bytes that really were alive at once while `run` ran, beyond those before it: what the calculator is checked by.

    A card keeps count itself; on the CPU the profiler notes every allocation.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(profile_memory=True) as profile:
        run()
    events = [one for one in profile.profiler.kineto_results.events() if one.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def unet_step(unet: nn.Module, plan: Plan) -> Tensor:
    """The training step of Stable Diffusion's U-Net, as `cost` wants it: noise in, noise out, squared error."""
    config, weight = unet.config, next(unet.parameters())
    shape = plan.batch_size, config.in_channels, plan.side // 8, plan.side // 8
    latents = torch.zeros(shape, device=weight.device, dtype=weight.dtype)
    told = torch.zeros(plan.batch_size, 77, config.cross_attention_dim, device=weight.device, dtype=weight.dtype)
    t = torch.zeros(plan.batch_size, device=weight.device, dtype=torch.long)
    extra = {}
    if config.addition_embed_type == "text_time":  # SDXL is told sizes and a pooled text as well
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        extra["added_cond_kwargs"] = {"text_embeds": told.new_zeros(plan.batch_size, pooled),
                                      "time_ids": told.new_zeros(plan.batch_size, 6)}
    return unet(latents, t, told, return_dict=False, **extra)[0].float().square().mean()


def rehearsed(unet: nn.Module, plan: Plan, device: str) -> int:
    """Bytes that the passes of one real update take, made on a copy of the U-Net."""
    dtype = unet.dtype
    with _bare(unet):
        twin = copy.deepcopy(unet)
    twin = twin.to(device, dtype).train().requires_grad_()
    if plan.precision == "bfloat16":
        twin.bfloat16()
    if plan.checkpointing:
        twin.enable_gradient_checkpointing()

    def update() -> None:
        for _ in range(min(plan.accumulation, 2)):
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=plan.precision == "mixed"):
                loss = unet_step(twin, plan)
            loss.backward()

    return measured(update, device)


def _twin(model: nn.Module, fake: FakeTensorMode, dtype: torch.dtype | None, where: torch.device | None) -> nn.Module:
    """A copy whose weights have no contents."""
    memo: dict[int, Any] = {}
    computing = getattr(model, "dtype", None)  # where weights are kept in 8 bits, that of the arithmetic
    for tensor in (*model.parameters(), *model.buffers()):
        wanted = dtype or (computing if tensor.dtype.itemsize == 1 else None)
        empty = fake.from_tensor(tensor.detach())
        with fake:
            empty = empty.to(where or tensor.device, wanted if wanted and tensor.is_floating_point() else None)
            memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    with _bare(model), fake:
        return copy.deepcopy(model, memo).train()


@contextmanager
def _bare(model: nn.Module) -> Iterator[None]:
    """Take off a network what moves and casts its weights: a copy of it would hold other networks, and move them."""
    taken = [(module, {name: module.__dict__.pop(name) for name in HOOKS if name in module.__dict__})
             for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in taken:
            module.__dict__.update(attributes)


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
