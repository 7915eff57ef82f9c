"""The calculator against measured peaks of a real training step, and against arithmetic by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipelines.lab import memory
from pipelines.lab.memory import Plan, cost, measured, unet_step


@pytest.fixture
def unet():
    from tests.tiny import TEXT_WIDTH, _unet

    torch.manual_seed(0)
    return _unet(cross_attention_dim=TEXT_WIDTH).train()


@pytest.mark.parametrize("plan", [
    Plan(2, 256), Plan(2, 384), Plan(2, 256, accumulation=3), Plan(4, 256, checkpointing=True),
    Plan(2, 256, precision="bfloat16"), Plan(2, 256, precision="mixed"), Plan(2, 256, optimizer="sgd"),
], ids=str)
def test_the_calculated_peak_is_within_15_percent_of_the_measured_one(unet, plan):
    calculated = cost(unet, plan, unet_step)
    if plan.precision == "bfloat16":
        unet.bfloat16()
    if plan.checkpointing:
        unet.enable_gradient_checkpointing()
    optimizer = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[plan.optimizer](unet.parameters(), 1e-4)

    def update() -> None:
        for _ in range(plan.accumulation):
            with torch.autocast("cpu", torch.bfloat16, enabled=plan.precision == "mixed"):
                loss = unet_step(unet, plan)
            loss.backward()
        optimizer.step()

    update()
    optimizer.zero_grad()
    states = sum(value.numel() * value.element_size() for state in optimizer.state.values() for value in state.values()
                 if torch.is_tensor(value))
    resident = sum(p.numel() * p.element_size() for p in unet.parameters()) + states
    peak = resident + measured(update)
    assert calculated.peak == pytest.approx(peak, rel=0.15)
    assert calculated.optimizer == pytest.approx(states, rel=0.01)


def test_the_model_is_left_alone(unet):
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    cost(unet, Plan(1, 64, checkpointing=True), unet_step)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert all(p.grad is None for p in unet.parameters())
    assert not unet.is_gradient_checkpointing


def test_a_card_full_of_pictures_costs_no_memory_to_calculate(unet):
    found = []
    peak = measured(lambda: found.append(cost(unet, Plan(64, 1024), unet_step)))
    assert found[0].peak > 2e9
    assert peak < 50e6


def test_what_saves_memory_is_seen_to_save_it(unet):
    plain = cost(unet, Plan(4, 256), unet_step)
    assert cost(unet, Plan(4, 256, checkpointing=True), unet_step).passing < 0.8 * plain.passing
    assert cost(unet, Plan(2, 256), unet_step).passing < 0.7 * plain.passing
    small = cost(unet, Plan(4, 256, precision="bfloat16", optimizer="adamw8bit"), unet_step)
    assert small.weights == plain.weights / 2
    assert small.optimizer < 0.3 * plain.optimizer


def test_frozen_weights_have_neither_gradients_nor_states(unet):
    unet.requires_grad_(False)
    unet.conv_out.requires_grad_(True)
    found = cost(unet, Plan(1, 64), unet_step)
    size = 4 * sum(p.numel() for p in unet.conv_out.parameters())
    assert (found.gradients, found.optimizer) == (size, 2 * size)


def test_the_states_of_each_optimizer_are_those_of_its_paper():
    weights = [nn.Parameter(torch.zeros(8, 32)), nn.Parameter(torch.zeros(16))]
    assert memory.optimizer_bytes("sgd", weights) == 0
    assert memory.optimizer_bytes("adamw", weights) == 2 * 4 * 272
    assert memory.optimizer_bytes("adamw8bit", weights) == round(2 * 272 * (1 + 4 / 256))
    assert memory.optimizer_bytes("adafactor", weights) == 4 * (8 + 32 + 16)


def test_adafactors_states_equal_those_of_transformers():
    from transformers.optimization import Adafactor

    weights = [nn.Parameter(torch.randn(8, 32)), nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(4, 6, 3, 3))]
    optimizer = Adafactor(weights, lr=1e-3, scale_parameter=False, relative_step=False)
    sum(w.square().sum() for w in weights).backward()
    optimizer.step()
    kept = sum(value.numel() * 4 for state in optimizer.state.values() for value in state.values()
               if torch.is_tensor(value) and value.numel() > 1)
    assert memory.optimizer_bytes("adafactor", weights) == kept
