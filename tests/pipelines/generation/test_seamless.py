"""Edges that fit, and layers that are as before afterwards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.mark.parametrize(("x", "y"), [(True, False), (False, True), (True, True)])
def test_a_rolled_picture_gives_the_rolled_result_on_the_chosen_axes(x, y):
    import torch

    from pipelines.generation.seamless import seamless

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 3, 3, padding=1))
    image = torch.randn(1, 3, 12, 20)
    with seamless(net, x=x, y=y):
        for axis, wrapped in ((3, x), (2, y)):
            rolled = net(image.roll(5, axis))
            same = torch.allclose(rolled, net(image).roll(5, axis), atol=1e-5)
            assert same is wrapped


def test_what_a_lora_adds_to_a_convolution_has_no_seam_either():
    import torch

    from pipelines.adapters.apply import applied
    from pipelines.adapters.delta import LowRank
    from pipelines.adapters.read import Adapter
    from pipelines.generation.seamless import seamless

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1))
    part = LowRank(torch.randn(2, 3, 3, 3), torch.randn(3, 2, 1, 1), 2.0)
    image = torch.randn(1, 3, 12, 20)
    with seamless(net, x=True, y=True), applied(SimpleNamespace(unet=net), [(Adapter("a", {"unet.0": part}, 1), 1, 1)]):
        torch.testing.assert_close(net(image.roll(5, 3)), net(image).roll(5, 3), atol=1e-4, rtol=1e-4)


def test_afterwards_every_layer_is_as_before_even_after_an_error(sd_folder):
    import torch
    from diffusers import AutoencoderKL

    from pipelines.generation.seamless import seamless

    vae = AutoencoderKL.from_pretrained(sd_folder / "vae")
    latents = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        before = vae.decode(latents).sample
        with pytest.raises(RuntimeError), seamless(vae, x=True, y=True):
            assert not torch.equal(vae.decode(latents).sample, before)
            raise RuntimeError
        assert torch.equal(vae.decode(latents).sample, before)
    assert not any("_conv_forward" in vars(layer) for layer in vae.modules())
