"""Let Stop and a deadline reach the building and reading of networks, which is one long call of a library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING

from ..errors import ModelError

if TYPE_CHECKING:
    import torch

PART_DEADLINE_S = 900.0  # of one component; a slow disk needs minutes for the largest


@contextmanager
def interruptible(go_on: Callable[[], None], shown: str, deadline_s: float = PART_DEADLINE_S) -> Iterator[None]:
    """Ask `go_on`, which raises when a job is stopped, whenever this thread gives a network a module or a parameter.

    torch calls such hooks for every layer that is built and for every tensor that is put into one. shown: what is
    loaded. Raises ModelError after deadline_s. Restores torch's default dtype, which diffusers sets while it builds a
    network and leaves as it is when that fails: whatever ran next in the process would compute in half precision.
    """
    import torch
    from torch.nn.modules.module import register_module_module_registration_hook as of_modules
    from torch.nn.modules.module import register_module_parameter_registration_hook as of_parameters

    thread, end = get_ident(), monotonic() + deadline_s

    def look(module: torch.nn.Module, name: str, value: torch.nn.Module | torch.Tensor | None) -> None:
        if get_ident() != thread:  # hooks are those of the whole process
            return
        go_on()
        if monotonic() >= end:
            raise ModelError(f"{shown} was not loaded: it took longer than {deadline_s:,.0f} s.")

    go_on()
    with ExitStack() as hooks:
        hooks.callback(torch.set_default_dtype, torch.get_default_dtype())
        hooks.callback(of_modules(look).remove)
        hooks.callback(of_parameters(look).remove)
        yield
