"""Attention for training on a CPU in bfloat16, where torch's fused one is slow, its backward most of all.

Written out as matrix products, which the processor has instructions for, it takes about half the time; long ones in
blocks of queries, whose weights are computed again for the gradients, so that memory stays that of a block. In float32
the fused one is faster, so there, and on a card, diffusers' own processors stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from .base_model import Base

BLOCK = 256  # queries at once: with 4096 keys their weights are 2 MB, which a cache holds
WHOLE_UP_TO = 2**19  # weights of a head that are kept for the gradients rather than computed again


@contextmanager
def written_out(base: Base) -> Iterator[None]:
    """Let the U-Net use `attend` meanwhile, where that is faster; its own processors come back in any case."""
    unet = base.unet
    if base.device.type != "cpu" or base.autocast != torch.bfloat16:
        yield
        return
    before, quick = dict(unet.attn_processors), WrittenOut()
    unet.set_attn_processor({name: quick if type(processor) is AttnProcessor2_0 else processor
                             for name, processor in before.items()})
    try:
        yield
    finally:
        unet.set_attn_processor(before)


class WrittenOut(AttnProcessor2_0):
    """A transformer block's attention by `attend`; what that cannot do goes diffusers' usual way."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
                 attention_mask: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        if hidden_states.dim() != 3 or attention_mask is not None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (states.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for states in
                   (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)))
        attended = attend(q, k, v).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](attended))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, arXiv:1706.03762, eq. 1), in the number format of q.

    q: (b, heads, queries, d). k, v: (b, heads, keys, d).
    """
    with torch.autocast(q.device.type, enabled=False):  # it would compute the softmax of whole layers in float32
        if q.shape[-2] * k.shape[-2] > WHOLE_UP_TO:
            return _Blocks.apply(q, k, v)
        return torch.softmax(q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2), -1) @ v


class _Blocks(torch.autograd.Function):
    """Attention head by head and block by block.

    With P = softmax(S), S = q k^T / sqrt(d), o = P v and their gradients written dX:
    dv = P^T do, dP = do v^T, dS = P (dP - rowsum(P dP)), dq = dS k / sqrt(d), dk = dS^T q / sqrt(d).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        out, scale = torch.empty_like(q), q.shape[-1] ** -0.5
        scores, weights = q.new_empty(2, min(BLOCK, q.shape[-2]), k.shape[-2])
        for head in _heads(q):
            scaled, keys, values = q[head] * scale, k[head].contiguous(), v[head].contiguous()
            for block in _blocks(q):
                s, p = scores[:len(scaled[block])], weights[:len(scaled[block])]
                torch.softmax(torch.mm(scaled[block], keys.T, out=s), -1, out=p)
                out[head][block] = p @ values
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        d_q, d_k, d_v, scale = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), q.shape[-1] ** -0.5
        scores, weights = q.new_empty(2, min(BLOCK, q.shape[-2]), k.shape[-2])
        for head in _heads(q):
            scaled, keys, values = q[head] * scale, k[head].contiguous(), v[head].contiguous()
            d_head = d_out[head].contiguous()
            d_keys, d_values = torch.zeros(2, *keys.shape)  # float32, because they add up over the blocks
            for block in _blocks(q):
                s, p = scores[:len(scaled[block])], weights[:len(scaled[block])]
                torch.softmax(torch.mm(scaled[block], keys.T, out=s), -1, out=p)
                d_values += p.T @ d_head[block]
                torch.mm(d_head[block], values.T, out=s)
                torch._softmax_backward_data(s, p, -1, p.dtype, grad_input=s)
                d_q[head][block] = s @ keys * scale
                d_keys += s.T @ scaled[block]
            d_k[head], d_v[head] = d_keys, d_values
        return d_q, d_k, d_v


def _heads(q: Tensor) -> Iterator[tuple[int, int]]:
    return ((row, head) for row in range(q.shape[0]) for head in range(q.shape[1]))


def _blocks(q: Tensor) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, q.shape[-2], BLOCK))
