"""Several processes at one run: gradients are summed, words are agreed on. One process alone is a team of one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
from torch import Tensor

BUNDLE = 32 * 2**20  # numbers sent at once


class Team:
    """rank: this process, from 0; it is the first that writes. size: how many there are. device: of what they send."""

    def __init__(self, rank: int = 0, size: int = 1, device: str = "cpu"):
        self.rank, self.size, self._device = rank, size, device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors over all processes, in place."""
        if self.size == 1:
            return
        bundle: list[Tensor] = []
        for tensor in [*tensors, None]:
            if bundle and (tensor is None or sum(one.numel() for one in bundle) + tensor.numel() > BUNDLE):
                flat = torch.cat([one.reshape(-1) for one in bundle])
                torch.distributed.all_reduce(flat)
                for one, part in zip(bundle, flat.split([one.numel() for one in bundle]), strict=True):
                    one.copy_(part.view_as(one))
                bundle = []
            if tensor is not None:
                bundle.append(tensor)

    def any(self, flag: bool) -> bool:
        """Whether any process says yes."""
        if self.size == 1:
            return flag
        said = torch.tensor([float(flag)], device=self._device)
        torch.distributed.all_reduce(said, op=torch.distributed.ReduceOp.MAX)
        return bool(said.item())

    def agree(self, number: int) -> int:
        """The first process's number, for all."""
        if self.size == 1:
            return number
        said = torch.tensor([number], device=self._device)
        torch.distributed.broadcast(said, 0)
        return int(said.item())

    def wait(self) -> None:
        """Go on when all are here."""
        self.agree(0)

    def leave(self) -> None:
        """End the team."""
        if self.size > 1:
            torch.distributed.destroy_process_group()


def join(device: str) -> tuple[Team, str]:
    """Join the processes that a launcher (accelerate launch, torchrun) started; returns the team and this one's device.

    The launcher says by environment variables who is who.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Team(), device
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    cards = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if cards:
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    torch.distributed.init_process_group("nccl" if cards else "gloo", timeout=timedelta(minutes=30))
    return Team(rank, size, device if cards else "cpu"), device
