"""What a pipeline is made of, by the names that diffusers gives it: "unet", "vae", "text_encoder", "tokenizer" ...

Some pipelines of the library are made without a part, which is None then, and take settings that are true or false."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch
    from diffusers import SchedulerMixin
    from transformers import PreTrainedTokenizerBase

Component: TypeAlias = "torch.nn.Module | PreTrainedTokenizerBase | SchedulerMixin | bool | None"
Components: TypeAlias = dict[str, "Component"]
