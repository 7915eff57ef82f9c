"""Networks that are equal weight for weight are kept once; any difference keeps both."""

from __future__ import annotations

import copy

import pytest
import torch

from pipelines.models.sharing import adopt, bytes_saved, is_twin
from tests.tiny import _vae


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return _vae()


def size(network) -> int:
    return sum(one.numel() * one.element_size() for one in (*network.parameters(), *network.buffers()))


def test_an_equal_network_is_taken_instead_of_the_own_one(vae):
    components = {"vae": copy.deepcopy(vae), "unet": object()}
    assert adopt(components, [{"vae": vae}]) == size(vae)
    assert components["vae"] is vae


def test_one_weight_that_differs_keeps_both(vae):
    own = copy.deepcopy(vae)
    with torch.no_grad():
        own.decoder.conv_out.bias[0] += 1e-3
    components = {"vae": own}
    assert adopt(components, [{"vae": vae}]) == 0 and components["vae"] is own


@pytest.mark.parametrize("change", [
    lambda own: own.half(), lambda own: own.register_to_config(scaling_factor=0.5),
    lambda own: own.decoder.register_buffer("more", torch.zeros(1)),
], ids=["dtype", "config", "names"])
def test_another_dtype_config_or_list_of_weights_is_another_network(vae, change):
    own = copy.deepcopy(vae)
    assert is_twin(own, vae)
    change(own)
    assert not is_twin(own, vae)


def test_networks_that_are_never_shared_stay(vae):
    own = copy.deepcopy(vae)
    components = {"unet": own}
    assert adopt(components, [{"unet": vae}]) == 0 and components["unet"] is own


def test_what_several_hold_is_counted_once(vae):
    other = copy.deepcopy(vae)
    assert bytes_saved([{"vae": vae}, {"vae": vae}, {"vae": vae}, {"vae": other}]) == 2 * size(vae)
