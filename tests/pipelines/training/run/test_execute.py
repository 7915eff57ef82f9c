"""Whole runs on tiny models, as the command line starts them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops
from safetensors import safe_open
from safetensors.torch import load_file

from pipelines.adapters import read as adapters
from pipelines.adapters.apply import applied
from pipelines.models.cache import build
from pipelines.training import presets
from pipelines.training.__main__ import main
from pipelines.training.dataset.survey import survey
from pipelines.training.events import CheckpointSaved, Ended, HeldOut, Notice, SampleSaved, StepDone
from pipelines.training.numbers import base_model as bases
from pipelines.training.numbers.batches import Examples, plan
from pipelines.training.numbers.caches import TensorCache
from pipelines.training.run import follow
from pipelines.training.run.execute import run
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.sample_prompts import parse
from pipelines.training.run.sampling import Samples
from tests.pipelines.training.conftest import settings_beside, write_pictures
from tests.tiny import tiny_sd

REPO = Path(__file__).parents[4]


def write_config(path: Path, config) -> Path:
    lines = [f"{key} = {json.dumps(value)}" for key, value in config.model_dump(exclude_defaults=True).items()]
    path.write_text("\n".join(lines))
    return path


def run_in(folder: Path, config) -> tuple[Ended, list]:
    run_folder = RunFolder(folder)
    run_folder.write_config(config)
    return run(config, run_folder, settings_beside(folder)), follow.history(folder)


def losses(events: list) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepDone)]


def worst(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of any channel."""
    return max(high for _, high in ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getextrema())


def test_the_command_line_makes_a_lora_that_draws_as_its_samples_showed(make_config, settings, tmp_path, capsys):
    config = make_config(steps=6, sample_every=6, sample_prompts=["a red cat"], sample_steps=2, trigger="ohwx",
                         validation=0.3, text_encoder="attention", learning_rate=0.02, save_dtype="float32")
    assert main([str(write_config(tmp_path / "config.toml", config))]) == 0
    assert "finished: The result is one.safetensors" in capsys.readouterr().out
    out = Path(config.output)
    folder = RunFolder(out / "one-run")
    with safe_open(out / "one.safetensors", "pt") as file:
        told, names = file.metadata(), list(file.keys())
    assert any(name.startswith("lora_te_text_model_encoder_layers_0_self_attn_q_proj") for name in names)
    assert told["ss_steps"] == "6" and told["ss_output_name"] == "one" and told["sshs_model_hash"]
    assert json.loads(told["ss_tag_frequency"])["one"]["a cat"] >= 1
    assert json.loads((out / "one.json").read_text())["activation text"] == "ohwx"
    assert Image.open(out / "one.png").size == (64, 64)
    assert (folder.path / "diffusers" / "one.safetensors").is_file()
    manifest = folder.manifest()
    assert manifest["resolved"]["rank"] and len(manifest["pictures"]) == 7 and manifest["versions"]["torch"]
    kinds = {type(event) for event in follow.history(folder.path)}
    assert kinds >= {StepDone, HeldOut, SampleSaved, CheckpointSaved, Ended}

    base = bases.load(bases.find_card(config, settings), config, settings)
    pipe = build(base.family.name, "txt2img", base.components)
    (tmp_path / "again").mkdir()
    samples = Samples(base, config, RunFolder(tmp_path / "again"), [parse(line) for line in config.sample_prompts])
    with applied(pipe, [(adapters.read(out / "one.safetensors", pipe, base.family), 1.0, 1.0)]):
        list(samples.draw(1))
    list(samples.draw(0))
    shown = Image.open(folder.samples / "0000006-0.png")
    assert worst(shown, Image.open(tmp_path / "again" / "samples" / "0000001-0.png")) <= 2
    assert worst(shown, Image.open(tmp_path / "again" / "samples" / "0000000-0.png")) > 2


@pytest.mark.parametrize("changes", [
    {"optimizer": "adafactor", "scheduler": "linear", "debiased": True, "buckets": False},
    {"scheduler": "restarts", "masked": True, "noise_offset": 0.1, "min_snr_gamma": False, "cache": "disk",
     "gradient_checkpointing": "on"},
    {"precision": "bfloat16", "scheduler": "constant", "clip_skip": 2, "repeats": 2, "crop": "top"},
], ids=["adafactor", "masked", "bfloat16"])
def test_other_ways_to_train_reach_the_end(make_config, tmp_path, changes):
    ended, events = run_in(tmp_path / "run", make_config(steps=3, **changes))
    assert ended.how == "finished", ended
    assert len(losses(events)) == 3


def test_sdxl_and_velocity_models_are_trained_as_they_are(make_config, tmp_path, sdxl_folder):
    ended, _ = run_in(tmp_path / "xl", make_config(model=str(sdxl_folder), steps=2, text_encoder="attention"))
    assert ended.how == "finished", ended
    clean = tiny_sd(tmp_path / "clean", prediction_type="sample")
    ended, _ = run_in(tmp_path / "x0", make_config(model=str(clean), steps=2, name="three"))
    assert ended.how == "finished", ended
    velocity = tiny_sd(tmp_path / "velocity", prediction_type="v_prediction")
    ended, _ = run_in(tmp_path / "v", make_config(model=str(velocity), steps=2, name="two"))
    assert ended.how == "finished", ended
    with safe_open(Path(make_config().output) / "two.safetensors", "pt") as file:
        assert file.metadata()["modelspec.prediction_type"] == "v"


def test_a_full_fine_tune_makes_a_model_that_loads(make_config, settings, tmp_path):
    from pipelines.library.read.card import read_folder

    config = make_config(method="full", steps=2, learning_rate=1e-4)
    ended, _ = run_in(tmp_path / "run", config)
    assert ended.how == "finished", ended
    made = Path(config.output) / "one"
    card = read_folder(made, "one")
    trained = bases.load(card, config, settings).unet.state_dict()
    before = bases.load(bases.find_card(config, settings), config, settings).unet.state_dict()
    apart = max((trained[name] - before[name]).abs().max().item() for name in before)
    assert 1e-5 < apart < 1e-2


def test_a_zip_is_trained_from_and_a_bad_picture_in_it_is_named(make_config, tmp_path):
    place = write_pictures(tmp_path / "set", [(64, 64)] * 3)
    (place / "bad.png").write_text("x")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as opened:
        for path in place.iterdir():
            opened.write(path, f"set/{path.name}")
    ended, events = run_in(tmp_path / "run", make_config(data=str(tmp_path / "set.zip"), steps=2))
    assert ended.how == "finished", ended
    assert any("Left out: bad.png" in event.text for event in events if isinstance(event, Notice))


def test_the_command_line_says_first_what_of_the_pictures_is_not_used(make_config, tmp_path, capsys):
    place = write_pictures(tmp_path / "set", [(64, 64)] * 4)
    for number in range(3):
        (place / f"{number}.txt").unlink()
    (place / "3.txt").write_bytes("一只红色的猫".encode("gbk"))
    (place / "readme.md").write_text("x")
    (place / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (place / "metadata.jsonl").write_text('{"file_name": "cat.png", "text": "a cat"}\n{bad')
    file = write_config(tmp_path / "config.toml", make_config(data=str(place), steps=1, trigger="ohwx"))
    assert main([str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[:6] == [
        "No picture has a caption: all of them are learned under the trigger word and what is put around captions "
        "alone.",
        "metadata.jsonl: 1 of its lines cannot be read, the first: 2.",
        "metadata.jsonl: 1 of its lines name no picture here: cat.png.",
        "Not used, as neither pictures nor captions: readme.md.",
        "Left out: gone.png (a link that leads nowhere).",
        "Mended: 3.png (the caption cannot be read: it is neither UTF-8 nor Western European text; choose its "
        "encoding, or save it as UTF-8)."]
    write_config(file, make_config(data=str(place), steps=1, caption_encoding="gbk"))
    assert main([str(file)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("3 of 4 pictures have no caption: they are learned under an empty caption.")
    assert "read as gbk" in told


def test_repeats_of_folders_and_several_captions_reach_the_updates(make_config, settings, tmp_path):
    place = write_pictures(tmp_path / "set" / "3_cats", [(64, 64)])
    (place / "0.txt").write_text("a red cat\na cat")
    write_pictures(tmp_path / "set" / "1_dogs", [(64, 64)], seed=1)
    config = make_config(data=str(place.parent), batch_size=1, steps=40, rank=2, alpha=1.0, resolution=64)
    pictures = survey(place.parent, resolution=64)
    base = bases.load(bases.find_card(config, settings), config, settings)
    examples = Examples(plan(pictures, config, base.size_step), [], base, config, TensorCache())
    draws = [examples.draw(update, step, 0)[0] for step, update in zip(range(80), examples.order(1, 0), strict=False)]
    assert Counter(draw.example.picture.name for draw in draws) == {"3_cats/0.png": 60, "1_dogs/0.png": 20}
    assert {draw.text for draw in draws} == {"", "a red cat", "a cat", "a cat, red, picture 0"} - (
        set() if config.caption_dropout else {""})


def test_samples_follow_the_flags_behind_their_prompts(make_config, tmp_path):
    lines = ["a red cat --w 72 --h 64 --d 7 --s 2 --l 1.5 --n blur --ss euler_a", "a red cat"]
    _, events = run_in(tmp_path / "run", make_config(steps=1, sample_every=1, sample_prompts=lines))
    assert [event.text for event in events if isinstance(event, Notice)] == [
        "Sample prompts: --ss euler_a is not used."]
    saved = [event for event in events if isinstance(event, SampleSaved)]
    assert [event.prompt for event in saved] == lines
    picture = Image.open(tmp_path / "run" / saved[0].file)
    assert picture.size == (72, 64) and saved[0].seed == 7
    for part in ("a red cat\nNegative prompt: blur\nSteps: 2", "CFG scale: 1.5", "Seed: 7"):
        assert part in picture.info["parameters"]


def test_a_sample_that_cannot_be_drawn_is_refused_before_the_first_step(make_config, tmp_path):
    ended, events = run_in(tmp_path / "run", make_config(sample_prompts=["a cat --w 999999"]))
    assert ended.how == "failed" and ended.text.startswith("Width (px): 999992") and losses(events) == []


def test_regularisation_pictures_take_part_with_their_weight(make_config, tmp_path):
    prior = write_pictures(tmp_path / "prior", [(64, 64)] * 3, seed=9)
    means = [losses(run_in(tmp_path / f"run{weight}", make_config(
        prior_data=str(prior), prior_weight=weight, steps=1))[1])[0] for weight in (0.0, 1.0, 2.0)]
    assert means[0] < means[1] < means[2]
    assert means[2] - means[1] == pytest.approx(means[1] - means[0], rel=1e-3)


def test_regularisation_pictures_keep_their_captions_as_they_are(make_config, pictures):
    config = presets.resolve(make_config(trigger="ohwx", prefix="my ", shuffle=True), pictures=2, native_size=64,
                             unet_parameters=10_000)
    own, other = survey(pictures, resolution=64)[:2]
    first, second = plan([own, replace(other, is_prior=True)], config, 8)
    assert all(text.startswith("ohwx, my ") for text in first.texts)
    assert second.texts == ("a cat, red, picture 1",)


def test_masks_that_are_wanted_but_not_there_are_said(make_config, tmp_path):
    place = write_pictures(tmp_path / "set", [(64, 64)] * 2)

    def told(name: str) -> list[str]:
        events = run_in(tmp_path / name, make_config(data=str(place), name=name, steps=1, masked=True))[1]
        return [event.text for event in events if isinstance(event, Notice)]

    assert told("without") == ["Masked: no picture has a mask, so all of each is learned."]
    Image.new("L", (64, 64), 200).save(place / "0-masklabel.png")
    assert told("with") == []


def test_a_result_has_a_preview_though_no_samples_were_wanted(make_config, tmp_path):
    config = make_config(steps=1, dropout=0.5)
    ended, events = run_in(tmp_path / "run", config)
    assert ended.how == "finished"
    assert Image.open(Path(config.output) / "one.png").size == (64, 64)
    assert [event.file for event in events if isinstance(event, SampleSaved)] == ["samples/0000001-0.png"]


def test_nothing_cached_on_disk_is_stale(make_config, tmp_path):
    place = write_pictures(tmp_path / "set", [(64, 64)])
    config = make_config(data=str(place), steps=1, cache="disk", batch_size=1, caption_dropout=0.0)
    first = losses(run_in(tmp_path / "one", config)[1])
    (tmp_path / "one" / "cache").rename(tmp_path / "kept")

    def again(name: str) -> list[float]:
        (tmp_path / name).mkdir()
        (tmp_path / "kept").rename(tmp_path / name / "cache")
        result = losses(run_in(tmp_path / name, config)[1])
        (tmp_path / name / "cache").rename(tmp_path / "kept")
        return result

    count = len(list((tmp_path / "kept").iterdir()))
    assert again("same") == first and len(list((tmp_path / "kept").iterdir())) == count
    (place / "0.txt").write_text("a dog")
    changed = again("caption")
    assert changed != first
    write_pictures(place, [(64, 64)], seed=5)
    (place / "0.txt").write_text("a dog")
    assert again("picture") != changed


def test_what_is_wrong_with_the_data_is_said_and_the_process_says_it_failed(make_config, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    config = make_config(data=str(tmp_path / "empty"))
    assert main([str(write_config(tmp_path / "config.toml", config))]) == 1
    assert "failed: Data: there is no picture" in capsys.readouterr().err
    assert follow.state(Path(config.output) / "one-run").how == "failed"
    (tmp_path / "bad.toml").write_text("nam = 1")
    assert main([str(tmp_path / "bad.toml")]) == 2
    assert "Did you mean name" in capsys.readouterr().err


def test_resume_goes_on_only_with_the_same_settings_and_pictures(make_config, tmp_path, capsys):
    place = write_pictures(tmp_path / "set", [(64, 64)] * 2)
    file = tmp_path / "config.toml"
    assert main([str(write_config(file, make_config(data=str(place), steps=2))), "--resume"]) == 0  # from 0
    assert main([str(write_config(file, make_config(data=str(place), steps=3))), "--resume"]) == 0
    folder = Path(make_config().output) / "one-run"
    assert [event.step for event in follow.history(folder) if isinstance(event, StepDone)] == [1, 2, 3]
    assert main([str(write_config(file, make_config(data=str(place), steps=4, rank=2))), "--resume"]) == 2
    assert "Rank: it was changed" in capsys.readouterr().err
    other = tiny_sd(tmp_path / "other", seed=3)
    assert main([str(write_config(file, make_config(data=str(place), steps=4, model=str(other)))), "--resume"]) == 1
    assert "Model: other is not the one" in capsys.readouterr().err
    write_pictures(place, [(64, 64)] * 2, seed=4)
    assert main([str(write_config(file, make_config(data=str(place), steps=4))), "--resume"]) == 1
    assert "pictures are not those" in capsys.readouterr().err


def test_a_new_run_of_the_same_name_keeps_the_old_one(make_config, tmp_path):
    file = write_config(tmp_path / "config.toml", make_config(steps=1))
    assert main([str(file)]) == main([str(file)]) == 0
    out = Path(make_config().output)
    assert follow.state(out / "one-run").how == follow.state(out / "one-run-1").how == "finished"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_has_the_name_of_a_result_already_is_kept_under_another_one_and_it_is_said(make_config, tmp_path, method):
    out = Path(make_config().output)
    out.mkdir()
    downloaded = {"one.safetensors": b"downloaded", "one.preview.png": b"picture", "one.civitai.info": b"{}",
                  "one-1.json": b"of another file", "one.v2.safetensors": b"of another name"}
    for name, data in downloaded.items():
        (out / name).write_bytes(data)
    (out / "one").mkdir()
    ended, events = run_in(tmp_path / "run", make_config(steps=1, method=method))
    assert ended.how == "finished", ended
    assert "There was 'one' already: it is called 'one-2' now." in [
        event.text for event in events if isinstance(event, Notice)]
    for name, data in downloaded.items():
        assert (out / name.replace("one.", "one-2.").replace("one-2.v2", "one.v2")).read_bytes() == data
    assert (out / "one-2").is_dir()
    made = out / ended.file
    assert made.is_dir() if method == "full" else made.stat().st_size > 1000


def test_early_stop_and_the_best_state_follow_the_held_out_loss(make_config, tmp_path):
    config = make_config(steps=40, validation=0.4, validate_every=1, early_stop=3, keep_best=True, learning_rate=1.0,
                         scheduler="constant", warmup=0.0, keep_last=1)
    ended, events = run_in(tmp_path / "run", config)
    assert ended.how == "finished" and ended.step < 40
    assert any("ended early" in event.text for event in events if isinstance(event, Notice))
    measured = [event for event in events if isinstance(event, HeldOut)]
    assert [event.best for event in measured[-3:]] == [False] * 3
    assert any(event.text.startswith("No step had a lower held-out loss") for event in events
               if isinstance(event, Notice))


def test_the_best_state_by_held_out_loss_becomes_the_result(make_config, tmp_path):
    config = make_config(steps=6, validation=0.4, validate_every=1, keep_best=True, learning_rate=0.05, warmup=0.0,
                         scheduler="constant", keep_last=1)
    _, events = run_in(tmp_path / "run", config)
    best = max(event.step for event in events if isinstance(event, HeldOut) and event.best)
    assert 0 < best < 6
    assert any(f"The result is that of step {best}," in event.text for event in events if isinstance(event, Notice))
    kept = load_file(tmp_path / f"run/checkpoints/step-{best:07d}/one-{best:06d}.safetensors")
    result = load_file(Path(config.output) / "one.safetensors")
    assert kept.keys() == result.keys() and all(torch.equal(kept[name], result[name]) for name in kept)


def test_two_processes_over_gloo_equal_one_with_the_doubled_batch(make_config, tmp_path):
    alone = losses(run_in(tmp_path / "alone", make_config(steps=3, batch_size=2))[1])
    config = make_config(steps=3, batch_size=1)
    RunFolder(tmp_path / "both").write_config(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines",
         "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(port), "-m",
         "pipelines.training", str(tmp_path / "both")], cwd=REPO, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    together = follow.history(tmp_path / "both")
    assert losses(together) == pytest.approx(alone, rel=1e-4)
    assert [event.step for event in together if isinstance(event, StepDone)] == [1, 2, 3]  # one of them writes
