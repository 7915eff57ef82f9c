"""The networks: shapes, that time and class are heard everywhere, and that each can learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pipelines.lab import networks
from pipelines.lab.networks import ContextUNet, CrossAttention, Shape, Waves, build

KINDS = ("context", "attention", "unet2d")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "side", "levels"), [(1, 8, 2), (3, 16, 3)])
def test_the_output_has_the_shape_of_the_picture(kind, channels, side, levels):
    network = build(Shape(kind, channels, 5, 16, levels))
    x = torch.randn(2, channels, side, side)
    assert network(x, torch.tensor([0, 999]), torch.eye(5)[:2]).shape == x.shape


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_without_classes_needs_no_context(kind):
    network = build(Shape(kind, 1, 0, 16, 2))
    assert network(torch.randn(1, 1, 8, 8), torch.tensor([5]), None).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_no_context_means_the_same_as_a_context_of_zeros(kind):
    network = build(Shape(kind, 1, 4, 16, 2)).eval()
    _wake(network)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 700])
    assert torch.allclose(network(x, t, None), network(x, t, torch.zeros(2, 4)), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_time_and_class_change_the_answer(kind):
    network = build(Shape(kind, 1, 4, 16, 2)).eval()
    _wake(network)
    x, one, two = torch.randn(1, 1, 8, 8), torch.eye(4)[:1], torch.eye(4)[1:2]
    answer = network(x, torch.tensor([100]), one)
    assert not torch.allclose(answer, network(x, torch.tensor([900]), one), atol=1e-4)
    assert not torch.allclose(answer, network(x, torch.tensor([100]), two), atol=1e-4)


@pytest.mark.parametrize("kind", ["context", "attention"])
def test_time_and_class_reach_every_block_of_every_resolution(kind):
    network = build(Shape(kind, 1, 4, 16, 3))
    _wake(network)
    network(torch.randn(2, 1, 16, 16), torch.tensor([1, 500]), torch.eye(4)[:2]).square().mean().backward()
    blocks = [*network.down, network.middle, *network.up]
    assert len(blocks) == 7
    assert all(block.scale_shift.weight.grad.abs().sum() > 0 for block in blocks)
    assert network.label.weight.grad.abs().sum() > 0


def test_only_the_attention_network_attends_and_does_so_after_every_block():
    def count(kind: str) -> int:
        return sum(isinstance(one, CrossAttention) for one in build(Shape(kind, 1, 4, 16, 3)).modules())

    assert (count("context"), count("attention")) == (0, 7)


def test_cross_attention_equals_the_formula_written_out():
    torch.manual_seed(0)
    layer = CrossAttention(16, 8, heads=2)
    x, label = torch.randn(1, 16, 2, 2), torch.randn(1, 8)
    places = layer.norm(x).flatten(2).transpose(1, 2)[0]
    tokens = torch.stack([layer.nothing, label[0]])
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        q, k, v = (places @ layer.to_q.weight[part].T, tokens @ layer.to_k.weight[part].T,
                   tokens @ layer.to_v.weight[part].T)
        heads.append(torch.softmax(q @ k.T / 8**0.5, -1) @ v)
    wanted = layer.to_out(torch.cat(heads, 1)).T.view(1, 16, 2, 2)
    assert torch.allclose(layer(x, label), wanted, atol=1e-5)


def test_waves_equal_the_timestep_embedding_of_diffusers():
    from diffusers.models.embeddings import get_timestep_embedding

    t = torch.tensor([0, 1, 500, 999])
    theirs = get_timestep_embedding(t, 32, flip_sin_to_cos=False, downscale_freq_shift=0)
    assert torch.allclose(Waves(32)(t), theirs, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_each_network_learns_two_pictures_by_their_class(kind):
    torch.manual_seed(0)
    network = build(Shape(kind, 1, 2, 16, 2))
    wanted = torch.stack([torch.ones(1, 8, 8), -torch.ones(1, 8, 8)])
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([500, 500])
    for _ in range(40):
        loss = F.mse_loss(network(x, t, torch.eye(2)), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2


def test_a_fresh_network_answers_zero():
    network = ContextUNet(Shape(width=16))
    assert network(torch.randn(1, 1, 8, 8), torch.tensor([1])).abs().max() < 0.1


def _wake(network: torch.nn.Module) -> None:
    """Give a fresh network's last layer weights, so that its answer depends on everything."""
    last = network.head[-1] if isinstance(network, networks.ContextUNet) else network.unet.conv_out
    torch.nn.init.normal_(last.weight, std=0.1)
