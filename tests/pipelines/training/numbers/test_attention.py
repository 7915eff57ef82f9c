"""The written-out attention is the same function as torch's, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch.nn.functional import scaled_dot_product_attention

from pipelines.training.numbers import attention
from pipelines.training.numbers import base_model as bases


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """As diffusers hands them over: (b, heads, tokens, d), heads lying beside one another."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).transpose(1, 2).requires_grad_()


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(("queries", "keys"), [(800, 800), (7000, 77), (256, 256), (300, 77)])
def test_it_equals_torchs_attention_with_its_gradients(queries, keys, dtype, error):
    """The first two are computed in blocks, of which the last is a small rest."""
    assert 800 % attention.BLOCK and (queries * keys > attention.WHOLE_UP_TO) == (queries > 300)
    q, k, v = (random(2, tokens, 3, 40, seed=i, dtype=dtype) for i, tokens in enumerate((queries, keys, keys)))
    d_out = random(2, queries, 3, 40, seed=3, dtype=dtype).detach()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = attention.attend(q, k, v)
    exact = [one.detach().float().requires_grad_() for one in (q, k, v)]
    wanted = scaled_dot_product_attention(*exact)
    found = [out, *torch.autograd.grad(out, (q, k, v), d_out)]
    for ours, theirs in zip(found, [wanted, *torch.autograd.grad(wanted, exact, d_out.float())], strict=True):
        assert ours.dtype == dtype
        assert (ours.float() - theirs).norm() < error * theirs.norm()


def test_long_attention_keeps_no_weights_for_the_gradients():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda _: None):
        attention.attend(*(random(1, 1024, 2, 8, seed=i, dtype=torch.bfloat16) for i in range(3)))
    assert kept == [1024 * 2 * 8] * 3


@pytest.fixture
def load(make_config, settings):
    def load(**changes) -> bases.Base:
        config = make_config(**changes)
        return bases.load(bases.find_card(config, settings), config, settings)

    return load


def through(unet: torch.nn.Module, **more: torch.Tensor) -> list[torch.Tensor]:
    """The output for one input, and the gradients of a layer before and of one behind the attention."""
    watched = [unet.conv_in.weight.requires_grad_(), unet.conv_out.weight.requires_grad_()]
    generator = torch.Generator().manual_seed(0)
    latents, embeds = (torch.randn(shape, generator=generator).to(unet.dtype)
                       for shape in ((2, 4, 16, 16), (2, 77, 32)))
    output = unet(latents, torch.tensor([10, 500]), embeds, **more).sample
    return [output.detach(), *torch.autograd.grad(output.float().square().sum(), watched)]


@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_unet_gives_the_same_with_it(load, monkeypatch, in_blocks):
    base = load(precision="bfloat16")
    monkeypatch.setattr(attention, "WHOLE_UP_TO", 0 if in_blocks else 2**19)
    plain = through(base.unet)
    with attention.written_out(base):
        assert all(type(one) is attention.WrittenOut for one in base.unet.attn_processors.values())
        written = through(base.unet)
    for ours, theirs in zip(written, plain, strict=True):
        assert not torch.equal(ours, theirs)
        assert (ours - theirs).float().norm() < 0.03 * theirs.float().norm()


def test_what_has_a_mask_goes_the_usual_way(load):
    base, mask = load(precision="bfloat16"), torch.ones(2, 77, dtype=torch.bool)
    mask[:, 5:] = False
    plain = through(base.unet, encoder_attention_mask=mask)
    with attention.written_out(base):
        written = through(base.unet, encoder_attention_mask=mask)
    assert not torch.equal(plain[0], through(base.unet)[0])
    assert all((ours - theirs).float().norm() < 0.03 * theirs.float().norm()
               for ours, theirs in zip(written, plain, strict=True))


def test_the_models_own_processors_come_back_whatever_happens(load):
    base = load(precision="bfloat16")
    before = dict(base.unet.attn_processors)
    with pytest.raises(ZeroDivisionError), attention.written_out(base):
        raise ZeroDivisionError
    assert base.unet.attn_processors == before


def test_float32_stays_with_torchs_own(load):
    base = load(precision="float32")
    with attention.written_out(base):
        assert all(type(one) is AttnProcessor2_0 for one in base.unet.attn_processors.values())
