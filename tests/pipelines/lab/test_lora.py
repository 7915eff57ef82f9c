"""The hand-written low-rank layer: its formula, its start, its merge, its counts, and files of others."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipelines.diffusion import noise_schedules
from pipelines.errors import ModelError, RequestError
from pipelines.lab import checkpoints, lora, networks
from pipelines.lab.data import TinySet


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = networks.build(networks.Shape("attention", 1, 3, 16, 2))
    nn.init.normal_(network.head[-1].weight, std=0.1)
    return network


def answer(network) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        return network(torch.randn(2, 1, 8, 8, generator=generator), torch.tensor([10, 500]), torch.eye(3)[:2])


def shake(layers) -> None:
    for layer in layers.values():
        nn.init.normal_(layer.up, std=0.3)


def test_the_layer_equals_equation_3_with_its_matrices_multiplied_out():
    torch.manual_seed(0)
    base = nn.Linear(6, 4)
    layer = lora.LowRank(base, rank=2, alpha=1.0)
    nn.init.normal_(layer.up)
    x = torch.randn(5, 6)
    weight = base.weight + 0.5 * layer.up @ layer.down
    assert torch.allclose(layer(x), x @ weight.T + base.bias, atol=1e-5)


def test_a_fresh_injection_changes_nothing_because_b_is_zero(network):
    before = answer(network)
    layers = lora.inject(network, rank=2)
    assert all(not layer.up.any() and layer.down.any() for layer in layers.values())
    assert torch.equal(answer(network), before)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_merged_equals_adapted_and_base_comes_back(network, rank):
    before = answer(network)
    layers = lora.inject(network, rank, alpha=rank / 2)
    shake(layers)
    adapted = answer(network)
    assert (adapted - before).abs().max() > 1e-3
    with lora.merged(network, layers):
        assert not any(isinstance(one, lora.LowRank) for one in network.modules())
        assert (answer(network) - adapted).abs().max() < 1e-5
    assert torch.equal(answer(network), adapted)
    lora.remove(network, layers)
    assert torch.equal(answer(network), before)


def test_counts_are_rank_times_inputs_plus_outputs(network):
    whole = sum(p.numel() for p in network.parameters())
    layers = lora.inject(network, rank=3)
    counted = lora.count(network, layers)
    sizes = [layer.base.weight.shape for layer in layers.values()]
    assert counted.base == whole
    assert counted.trained == sum(3 * (outside + inside) for outside, inside in sizes)
    assert counted.trained == sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert 0 < counted.share < 1


def test_only_chosen_projections_get_a_layer(network):
    layers = lora.inject(network, 2, targets=("to_q", "to_v"))
    assert {name.rpartition(".")[2] for name in layers} == {"to_q", "to_v"}


def test_a_u_net_of_diffusers_takes_layers_too():
    from tests.tiny import TEXT_WIDTH, _unet

    unet = _unet(cross_attention_dim=TEXT_WIDTH).eval()
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 7, TEXT_WIDTH)
    with torch.no_grad():
        before = unet(*inputs)[0]
        layers = lora.inject(unet, 2)
        assert any(name.endswith("to_out.0") for name in layers)
        assert torch.equal(unet(*inputs)[0], before)
        shake(layers)
        adapted = unet(*inputs)[0]
        with lora.merged(unet, layers):
            assert (unet(*inputs)[0] - adapted).abs().max() < 1e-5
    assert (adapted - before).abs().max() > 1e-4


def test_models_without_attention_and_ranks_beyond_64_are_refused(network):
    with pytest.raises(RequestError, match="no attention to put a LoRA into"):
        lora.inject(networks.build(networks.Shape("context", 1, 3, 16, 2)), 2)
    with pytest.raises(RequestError, match="Rank: 65 is not possible. Between 1 and 64"):
        lora.inject(network, 65)


def test_training_lowers_the_loss_and_moves_the_low_rank_weights_only(network):
    frozen = {name: p.clone() for name, p in network.named_parameters()}
    model = checkpoints.Model(network, networks.Shape("attention", 1, 3, 16, 2), noise_schedules.make("cosine", 100),
                              "x0", ("a", "b", "c"), 8)
    layers = lora.inject(network, 4)
    pixels = torch.stack([torch.full((1, 8, 8), value) for value in (-0.8, 0.0, 0.8)]).repeat(4, 1, 1, 1)
    tiny = TinySet("three greys", pixels, torch.arange(3).repeat(4), ("a", "b", "c"))
    losses = list(lora.fit(model, layers, tiny, updates=60, learning_rate=1e-2))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    lora.remove(network, layers)
    assert all(torch.equal(p, frozen[name]) for name, p in network.named_parameters())


def test_norms_are_those_of_the_product_relative_to_the_weight(network):
    layers = lora.inject(network, 2, alpha=1.0)
    shake(layers)
    found = lora.norms(layers)
    name, layer = next(iter(layers.items()))
    product = 0.5 * layer.up @ layer.down
    assert found[name] == pytest.approx(float(torch.linalg.matrix_norm(product) / torch.linalg.matrix_norm(
        layer.base.weight)), rel=1e-5)


def test_norms_of_a_file_are_read_under_every_way_of_naming(tmp_path):
    torch.manual_seed(0)
    down, up = torch.randn(2, 6), torch.randn(4, 2)
    conv_down, conv_up = torch.randn(2, 3, 3, 3), torch.randn(5, 2, 1, 1)
    save_file({
        "unet.a.lora_A.weight": down, "unet.a.lora_B.weight": up,
        "lora_unet_b.lora_down.weight": down.clone(), "lora_unet_b.lora_up.weight": up.clone(),
        "lora_unet_b.alpha": torch.tensor(1.0),
        "lora_unet_c.lora_down.weight": conv_down, "lora_unet_c.lora_up.weight": conv_up,
    }, tmp_path / "x.safetensors")
    norms = lora.norms_of_file(tmp_path / "x.safetensors")
    product = float((up @ down).norm())
    assert norms == {
        "unet.a": pytest.approx(product, rel=1e-5), "lora_unet_b": pytest.approx(product / 2, rel=1e-5),
        "lora_unet_c": pytest.approx(float((conv_up.flatten(1) @ conv_down.flatten(1)).norm()), rel=1e-5)}


def test_norms_of_hadamard_and_kronecker_files_are_read_too(tmp_path):
    torch.manual_seed(0)
    a, b, c, d = torch.randn(4, 2), torch.randn(2, 6), torch.randn(4, 2), torch.randn(2, 6)
    one, two = torch.randn(2, 3), torch.randn(4, 5)
    save_file({"lora_unet_a.hada_w1_a": a, "lora_unet_a.hada_w1_b": b, "lora_unet_a.hada_w2_a": c,
               "lora_unet_a.hada_w2_b": d, "lora_unet_a.alpha": torch.tensor(1.0),
               "lora_unet_b.lokr_w1": one, "lora_unet_b.lokr_w2": two}, tmp_path / "x.safetensors")
    assert lora.norms_of_file(tmp_path / "x.safetensors") == {
        "lora_unet_a": pytest.approx(float((0.5 * (a @ b) * (c @ d)).norm()), rel=1e-5),
        "lora_unet_b": pytest.approx(float(one.norm() * two.norm()), rel=1e-5)}


def test_a_file_without_lora_and_a_damaged_one_are_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(ModelError, match="holds no LoRA"):
        lora.norms_of_file(tmp_path / "plain.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ModelError, match="header is not readable"):
        lora.norms_of_file(tmp_path / "broken.safetensors")
