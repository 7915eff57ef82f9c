"""What a pipeline is made of, by the names that diffusers gives it: "unet", "vae", "text_encoder", "tokenizer" ..."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch
    from diffusers import SchedulerMixin
    from transformers import PreTrainedTokenizerBase

Component: TypeAlias = "torch.nn.Module | PreTrainedTokenizerBase | SchedulerMixin"
Components: TypeAlias = "dict[str, Component]"
