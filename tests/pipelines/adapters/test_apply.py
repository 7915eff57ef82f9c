"""Attached adapters, against weights changed by hand, and that nothing of them stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipelines.adapters.apply import applied, merged
from pipelines.adapters.delta import Full, Hadamard, Kronecker, LowRank
from pipelines.adapters.read import Adapter
from pipelines.errors import ModelError
from tests.pipelines.adapters.made import Kinds, add_by_hand, by_hand, parts_for, picture, pipe_of, state, weights

CLOSE = {"rtol": 0, "atol": 1e-5}


def adapter(parts, name="ink"):
    return Adapter(name, parts, len(parts))


@pytest.mark.parametrize("kinds", [Kinds(encoders=False, convolutions=False), Kinds(), Kinds(dora=True)],
                         ids=["attention", "everything", "dora"])
def test_a_picture_equals_that_of_weights_changed_by_hand(pipe, family, kinds):
    parts = parts_for(pipe, kinds)
    plain = picture(pipe)
    with applied(pipe, [(adapter(parts), 0.4, 0.7)]):
        attached = picture(pipe)
    with merged(pipe, [(adapter(parts), 0.4, 0.7)]):
        inside = picture(pipe)
    add_by_hand(pipe, parts, 0.4, 0.7)
    expected = picture(pipe)
    assert (expected - plain).abs().max() > 0.1
    torch.testing.assert_close(attached, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    torch.testing.assert_close(inside, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_several_adapters_add_up(sd_pipe):
    kinds = ((False, 0), (True, 1), (False, 2))
    first, second, third = (parts_for(sd_pipe, Kinds(dora=dora), seed) for dora, seed in kinds)
    uses = [(adapter(first), 0.3, 0.3), (adapter(second), 0.5, 0.0), (adapter(third), -0.4, 1.0)]
    known = weights(sd_pipe)
    with applied(sd_pipe, uses):
        attached = picture(sd_pipe)
    originals = {path: weight.double().clone() for path, weight in known.items()}
    for parts, unet, te in ((first, 0.3, 0.3), (second, 0.5, 0.0), (third, -0.4, 1.0)):
        for path, part in parts.items():
            strength = unet if path.startswith("unet.") else te
            known[path].data += (strength * by_hand(part, originals[path])).float()
    torch.testing.assert_close(attached, picture(sd_pipe), rtol=1e-5, atol=1e-4)


def test_convolutions_in_three_factors_and_other_kinds_of_parts_act_as_their_matrices(sd_pipe):
    known = weights(sd_pipe)
    conv, strided = "unet.down_blocks.0.resnets.0.conv1", "unet.down_blocks.0.downsamplers.0.conv"
    linear, point = "unet.mid_block.resnets.0.time_emb_proj", "unet.mid_block.attentions.0.proj_in"
    rows, columns = known[linear].shape

    def draw(*shape):
        return torch.randn(shape) * 0.3

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        parts = {
            conv: LowRank(draw(4, known[conv].shape[1], 1, 1), draw(known[conv].shape[0], 4, 1, 1), 2.0,
                          mid=draw(4, 4, 3, 3)),
            strided: Hadamard(draw(32, 2), draw(2, 32 * 9), draw(32, 2), draw(2, 32 * 9), 1.0),
            linear: Kronecker((draw(4, 2),), (draw(rows // 4, 3), draw(3, columns // 2)), 1.5),
            point: LowRank(draw(4, 64), draw(64, 4), 4.0, dora_scale=draw(1, 64, 1, 1).abs() + 1),
            "unet.conv_out": Full(draw(*known["unet.conv_out"].shape))}
        tucker = Hadamard(draw(3, 64), draw(3, 64), draw(3, 64), draw(3, 64), 3.0, draw(3, 3, 3, 3), draw(3, 3, 3, 3))
        parts["unet.mid_block.resnets.0.conv1"] = tucker
    with applied(sd_pipe, [(adapter(parts), 0.5, 1.0)]):
        attached = picture(sd_pipe)

    def add(path, delta):
        known[path].data += 0.5 * delta.reshape(known[path].shape).float()

    p = parts[conv]
    add(conv, 0.5 * torch.einsum("or,rskl,sixy->oikl", p.up[:, :, 0, 0], p.mid, p.down))
    p = parts[strided]
    add(strided, 0.5 * (p.w1_a @ p.w1_b) * (p.w2_a @ p.w2_b))
    p = parts[linear]
    add(linear, 0.5 * torch.kron(p.w1[0], p.w2[0] @ p.w2[1]))
    p = parts[point]
    whole = known[point].flatten(1) + p.up @ p.down
    add(point, whole / whole.norm(dim=0, keepdim=True) * p.dora_scale.flatten(1) - known[point].flatten(1))
    add("unet.conv_out", parts["unet.conv_out"].diff)
    cores = [torch.einsum("rskl,ro,si->oikl", core, a, b) for core, a, b in
             ((tucker.t1, tucker.w1_a, tucker.w1_b), (tucker.t2, tucker.w2_a, tucker.w2_b))]
    add("unet.mid_block.resnets.0.conv1", cores[0] * cores[1])
    torch.testing.assert_close(attached, picture(sd_pipe), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("way", [applied, merged])
def test_nothing_stays_after_leaving(pipe, way):
    ink, dots = adapter(parts_for(pipe)), adapter(parts_for(pipe, Kinds(dora=True), seed=1), "dots")
    plain = picture(pipe)  # first: transformers prepares its modules for hidden states when they are first asked for
    before = state(pipe)
    with way(pipe, [(ink, 1.0, 1.0)]), way(pipe, [(dots, 0.5, 0.5), (ink, -1.0, 0.2)]):
        assert not torch.equal(picture(pipe), plain)
    assert state(pipe) == before
    with pytest.raises(ZeroDivisionError), way(pipe, [(ink, 1.0, 1.0)]):
        picture(pipe)
        raise ZeroDivisionError
    assert state(pipe) == before
    assert torch.equal(picture(pipe), plain)


def test_while_attached_the_models_own_tensors_are_not_written_to(pipe):
    tensors = [tensor for facts in (state(pipe),) for tensor in facts if isinstance(tensor[2], int)]
    with applied(pipe, [(adapter(parts_for(pipe)), 1.0, 1.0)]):
        picture(pipe)
        assert [facts for facts in state(pipe) if isinstance(facts[2], int)] == tensors


def test_a_failed_attachment_leaves_nothing(sd_pipe):
    parts = parts_for(sd_pipe)
    path = list(parts)[-1]
    before = state(sd_pipe)
    broken = {**parts, path: replace(parts[path], down=parts[path].down[:, :3])}
    with pytest.raises(ModelError, match="ink was read for another model"), \
            applied(sd_pipe, [(adapter(broken), 1.0, 1.0)]):
        pass
    assert state(sd_pipe) == before


def test_weights_change_while_attached(sd_pipe):
    parts = parts_for(sd_pipe)
    with applied(sd_pipe, [(adapter(parts), 0.3, 0.8)]):
        expected = picture(sd_pipe)
    plain = picture(sd_pipe)
    with applied(sd_pipe, [(adapter(parts), 1.0, 1.0)]) as report:
        report.weights[0].unet, report.weights[0].text_encoder = 0.3, 0.8
        assert torch.equal(picture(sd_pipe), expected)
        report.weights[0].unet = report.weights[0].text_encoder = 0.0
        assert torch.equal(picture(sd_pipe), plain)


def test_each_half_has_its_own_weight(sd_pipe):
    parts = parts_for(sd_pipe)
    encoder = {path: part for path, part in parts.items() if path.startswith("text_encoder.")}
    with applied(sd_pipe, [(adapter(parts), 0.0, 0.9)]):
        one = picture(sd_pipe)
    with applied(sd_pipe, [(adapter(encoder), 1.0, 0.9)]):
        assert torch.equal(picture(sd_pipe), one)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_models_take_adapters_in_their_own_format(sd_folder, dtype):
    pipe = pipe_of(sd_folder).to(dtype)
    unet, x = pipe.unet, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    text = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(2))
    parts = parts_for(pipe, Kinds(dora=True)) | parts_for(pipe, Kinds(encoders=False, convolutions=False), seed=1)

    def outcome():
        with torch.inference_mode():
            return unet(x.to(unet.dtype), 500, text.to(unet.dtype)).sample

    plain = outcome().float()
    with applied(pipe, [(adapter(parts), 0.3, 1.0)]):
        attached = outcome()
    assert attached.dtype == dtype
    with merged(pipe.to(torch.float32), [(adapter(parts), 0.3, 1.0)]):
        expected = outcome()
    assert (attached.float() - expected).norm() < 0.05 * (expected - plain).norm()


def test_runs_with_other_adapters_in_between_draw_the_same_picture(sd_folder):
    from pipelines.events import ImageReady
    from pipelines.families import FAMILIES
    from pipelines.generation import generate
    from pipelines.requests import Txt2Img, make

    pipe = pipe_of(sd_folder)
    ink, dots = adapter(parts_for(pipe)), adapter(parts_for(pipe, Kinds(dora=True), seed=1), "dots")
    request = make(Txt2Img, prompt="a red cat", seed=3, steps=2, width=64, height=64, sampler="Euler a",
                   schedule="Karras", guidance_scale=5.0)

    def draw(uses):
        with applied(pipe, uses):
            events = list(generate.run(request, pipe, FAMILIES["sd15"], open_image=None))
        return [event.image.tobytes() for event in events if isinstance(event, ImageReady)]

    jobs = ([], [(ink, 0.8, 0.8)], [(dots, 0.5, 1.0)], [(ink, 0.8, 0.8), (dots, -0.3, 0.0)])
    alone = [draw(uses) for uses in jobs]
    assert len({pictures[0] for pictures in alone}) == len(jobs)
    for round_ in range(3):
        assert [draw(uses) for uses in jobs[::-1]] == alone[::-1], round_
    with pytest.raises(RuntimeError), applied(pipe, [(ink, 1.0, 1.0)]):
        events = generate.run(request, pipe, FAMILIES["sd15"], open_image=None)
        next(events)
        raise RuntimeError
    assert draw([]) == alone[0]
