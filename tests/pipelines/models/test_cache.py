"""One copy of the weights for all tasks, leases that leave no trace, and room made oldest first."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from pipelines.library.read.card import read_folder
from pipelines.machine.device import Placement
from pipelines.models.cache import Budget, PipelineCache, build
from pipelines.models.loading import bytes_of, load
from pipelines.models.offload import offloaded

CPU = Placement("cpu", "float32", "float32")
ROOM = Budget(10**12, 10**12)


def loader(log=None, placement=CPU):
    def read(card):
        if log is not None:
            log.append(card.name)
        parts = load(card, CPU, offline=True)
        return parts, placement, bytes_of(parts)

    return read


@pytest.fixture
def cards(tmp_path):
    from tests.tiny import tiny_sd

    return [read_folder(tiny_sd(tmp_path / name, seed=i), name) for i, name in enumerate("abc")]


def pointers(pipe):
    return {(name, key): tensor.data_ptr() for name in ("unet", "vae", "text_encoder")
            for key, tensor in getattr(pipe, name).state_dict().items()}


@pytest.mark.parametrize("folder", ["sd_folder", "sdxl_folder"])
def test_the_three_tasks_share_one_copy_of_the_weights(folder, request):
    cache = PipelineCache(loader(), ROOM)
    card = read_folder(request.getfixturevalue(folder), "m")
    seen, classes, schedulers = [], set(), []
    for task in ("txt2img", "img2img", "inpaint"):
        with cache.lease(card, task) as lease:
            seen.append(pointers(lease.pipe))
            classes.add(type(lease.pipe).__name__)
            schedulers.append(lease.pipe.scheduler)
    assert seen[0] == seen[1] == seen[2] and len(classes) == 3
    assert len({id(scheduler) for scheduler in schedulers}) == 3


def test_a_scheduler_changed_in_one_lease_is_fresh_in_the_next(cards):
    cache = PipelineCache(loader(), ROOM)
    with cache.lease(cards[0], "txt2img") as lease:
        lease.pipe.scheduler.set_timesteps(7)
    with cache.lease(cards[0], "txt2img") as lease:
        assert lease.pipe.scheduler.num_inference_steps is None


def test_parts_wait_for_one_lease_alone_and_are_at_home_afterwards(cards):
    cache = PipelineCache(loader(), ROOM)
    with cache.lease(cards[0], "txt2img") as lease:
        before = pointers(lease.pipe)
        assert not hasattr(lease.pipe.unet, "_hf_hook")
    # the device is played by the CPU
    with cache.lease(cards[0], "txt2img", lambda usual: replace(usual, offload="model")) as lease:
        assert lease.placement.offload == "model" and hasattr(lease.pipe.unet, "_hf_hook")
    with cache.lease(cards[0], "txt2img") as lease:
        assert lease.placement == CPU and not hasattr(lease.pipe.unet, "_hf_hook")
        assert pointers(lease.pipe) == before


def test_where_parts_go_after_a_lease_is_their_home(cards):
    pipe = build("sd15", "txt2img", load(cards[0], CPU))
    with offloaded(pipe, replace(CPU, offload="model"), "meta"):  # plays a card
        assert pipe.unet.device.type == "cpu"
    assert {part.device.type for part in (pipe.unet, pipe.vae, pipe.text_encoder)} == {"meta"}


def test_a_checkpoint_is_loaded_once_even_when_two_ask_at_once(cards):
    log: list[str] = []
    cache = PipelineCache(loader(log), ROOM)

    def use():
        with cache.lease(cards[0], "txt2img"):
            pass

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log == ["a"]


def test_the_least_recently_used_goes_first(cards):
    log: list[str] = []
    size = loader()(cards[0])[2]
    cache = PipelineCache(loader(log), Budget(int(2.5 * size), 0))
    for i in (0, 1, 0, 2, 0):
        with cache.lease(cards[i], "txt2img"):
            pass
    assert log == ["a", "b", "c"] and cache.resident == ("c", "a")


def test_what_leaves_a_card_is_parked_on_the_host_and_comes_back_without_loading(cards):
    log: list[str] = []
    moves: list[str] = []
    size = loader()(cards[0])[2]
    card = Placement("cuda", "float32", "float32")  # only its name matters: moving is recorded instead
    cache = PipelineCache(loader(log, card), Budget(int(1.5 * size), int(1.5 * size)),
                          move=lambda parts, device: moves.append(device))
    for i in (0, 1, 0):
        with cache.lease(cards[i], "txt2img"):
            pass
    assert log == ["a", "b"] and moves == ["cpu", "cpu", "cuda"]
    with cache.lease(cards[2], "txt2img"):  # now b, older on the host than a, has to go
        pass
    assert cache.resident == ("a", "c")


def test_one_that_is_larger_than_the_budget_still_runs(cards):
    cache = PipelineCache(loader(), Budget(1, 0))
    for card in cards[:2]:
        with cache.lease(card, "txt2img") as lease:
            assert lease.pipe.unet is not None
    assert cache.resident == ("b",)


def test_a_failed_load_leaves_the_others_usable(cards):
    from pipelines.errors import ModelError

    def read(card):
        if card.name == "b":
            raise ModelError("b is damaged")
        return loader()(card)

    cache = PipelineCache(read, ROOM)
    with cache.lease(cards[0], "txt2img"):
        pass
    for _ in range(2):
        with pytest.raises(ModelError, match="b is damaged"), cache.lease(cards[1], "txt2img"):
            pass
    assert cache.resident == ("a",)


def test_a_card_is_left_to_another_process_when_asked(cards):
    moves: list[str] = []
    cache = PipelineCache(loader(placement=Placement("cuda", "float32", "float32")), ROOM,
                          move=lambda parts, device: moves.append(device))
    with cache.lease(cards[0], "txt2img"):
        cache.vacate()  # in use: stays
    cache.vacate()
    assert moves == ["cpu"] and cache.holds(cards[0])
    with cache.lease(cards[0], "txt2img"):
        assert moves == ["cpu", "cuda"]


def test_equal_parts_of_two_checkpoints_are_held_once_and_counted_once(tmp_path, sd_folder):
    import shutil

    from tests.tiny import tiny_sd

    other = tiny_sd(tmp_path / "other", seed=7)
    shutil.copytree(sd_folder / "vae", other / "vae", dirs_exist_ok=True)
    found = [read_folder(sd_folder, "first"), read_folder(other, "second"),
             read_folder(tiny_sd(tmp_path / "third", seed=8), "third")]
    vae_bytes = sum(tensor.nbytes for tensor in loader()(found[0])[0]["vae"].state_dict().values())
    # There is room for the third only because the autoencoder of the two others is there once.
    cache = PipelineCache(loader(), Budget(sum(loader()(card)[2] for card in found) - vae_bytes // 2, 0))
    parts = []
    for card in found:
        with cache.lease(card, "txt2img") as lease:
            parts.append(lease.pipe)
    assert parts[0].vae is parts[1].vae and parts[2].vae is not parts[0].vae
    assert len({id(pipe.text_encoder) for pipe in parts}) == len({id(pipe.unet) for pipe in parts}) == 3
    assert cache.resident == ("first", "second", "third")


def test_a_part_that_another_checkpoint_still_uses_on_the_card_is_not_parked(tmp_path, sd_folder):
    import shutil

    from tests.tiny import tiny_sd

    other = tiny_sd(tmp_path / "other", seed=7)
    shutil.copytree(sd_folder / "vae", other / "vae", dirs_exist_ok=True)
    moved: list[tuple[str, tuple[str, ...]]] = []
    cache = PipelineCache(loader(placement=Placement("cuda", "float32", "float32")), ROOM,
                          move=lambda parts, device: moved.append((device, tuple(sorted(
                              name for name, part in parts.items() if hasattr(part, "parameters"))))))
    cards = read_folder(sd_folder, "first"), read_folder(other, "second")
    for card in cards:
        with cache.lease(card, "txt2img"):
            pass
    with cache.lease(cards[1], "txt2img"):
        cache.vacate()  # the second is in use, and with it the autoencoder of both
    assert moved == [("cpu", ("text_encoder", "unet"))]
    cache.vacate()
    assert moved[1] == ("cpu", ("text_encoder", "unet", "vae"))


def test_autoencoders_that_are_kept_beside_count_and_go_first(cards, sd_folder, tmp_path):
    from pipelines.library import Library
    from pipelines.library.folders import Place
    from pipelines.models.vae_cache import Vaes

    (tmp_path / "vae").mkdir()
    weights = sd_folder / "vae" / "diffusion_pytorch_model.safetensors"
    (tmp_path / "vae" / "clear.safetensors").write_bytes(weights.read_bytes())
    library = Library(tmp_path / "data", lambda: (Place(tmp_path / "vae", tmp_path / "vae"),))
    library.refresh()
    assert library.wait(60)
    entry = library.get("vae", "clear")
    library.close()
    size, vaes = loader()(cards[0])[2], Vaes()
    cache = PipelineCache(loader(), Budget(2 * size + entry.size_bytes // 2, 0), beside=vaes)
    with cache.lease(cards[0], "txt2img") as lease:
        kept = vaes.load(entry, lease, cache.make_room)
        assert vaes.load(entry, lease, cache.make_room) is kept
    assert 0.9 * entry.size_bytes < vaes.size_bytes <= entry.size_bytes
    with cache.lease(cards[1], "txt2img") as lease:  # two checkpoints fit, but not with the autoencoder
        assert vaes.size_bytes == 0 and cache.resident == ("a", "b")
        vaes.load(entry, lease, cache.make_room)  # and for this the older of the two has to go
    assert cache.resident == ("b",) and vaes.size_bytes


def test_a_checkpoint_that_cannot_come_back_for_lack_of_room_comes_back_later(cards):
    import torch

    moves = []

    def move(components, device):
        moves.append(device)
        if device == "cuda" and moves.count("cuda") == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    card = Placement("cuda", "float32", "float32")
    cache = PipelineCache(loader(placement=card), Budget(cards[0].size_bytes * 3 // 2, 10**12), move)
    for one in cards[:2]:
        with cache.lease(one, "txt2img"):
            pass
    with pytest.raises(torch.OutOfMemoryError), cache.lease(cards[0], "txt2img"):
        pass
    with cache.lease(cards[0], "txt2img"):
        assert moves[-1] == "cuda" and moves.count("cuda") == 2
