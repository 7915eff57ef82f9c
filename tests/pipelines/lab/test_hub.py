"""Data sets and models of the hub: what is read of them, and whole runs against a server that stands in for it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.lab import checkpoints, hub, sets
from pipelines.lab.assets import BUNDLED
from tests.pipelines.lab.hub_stand_in import TOKEN, Hub, standing_in

ROOT = Path(__file__).parents[3]
UPLOADED = ["README.md", "after.png", "before.png", "model_index.json", "scheduler/scheduler_config.json",
            "unet/config.json", "unet/diffusion_pytorch_model.safetensors"]


class Table:
    """The shape of a table of `datasets`: named columns, rows by number."""

    def __init__(self, rows, features):
        self._rows, self.features, self.column_names = rows, features, list(rows[0])

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, number):
        return self._rows[number]


class Names:
    names = ("cat", "dog")


def test_pictures_classes_and_captions_come_from_the_usual_columns():
    rows = [{"img": Image.new("L", (20, 30), 255 * i), "label": i, "text": f"number {i}"} for i in (0, 1)]
    tiny = hub.from_table(Table(rows, {"label": Names}), "me/set", 16)
    assert tuple(tiny.pixels.shape) == (2, 3, 16, 16) and tiny.classes == ("cat", "dog")
    assert tiny.captions == ("number 0", "number 1")
    assert (tiny.pixels[0].max(), tiny.pixels[1].min()) == (-1, 1)


def test_a_set_without_pictures_is_refused():
    with pytest.raises(RequestError, match="no column of pictures"):
        hub.from_table(Table([{"text": "a"}], {}), "me/set", 16)


@pytest.mark.parametrize("name", ["", "digits", "../../etc/passwd", "a/b/c", "http://x/y"])
def test_what_is_no_name_on_the_hub_is_refused_before_anything_is_asked(name):
    with pytest.raises(RequestError, match="no name on the hub"):
        sets.load(f"hub:{name}", 16)
    with pytest.raises(RequestError, match="no name on the hub"):
        hub.model_folder(name)


@pytest.fixture(scope="module")
def stand_in():
    """A hub with a private model, the same with its weights at the top, a model of another kind, and a data set."""
    with standing_in() as server:
        folder = BUNDLED / "digits-ddpm"
        model = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        server.repositories["models/me/base"] = model
        server.private.add("models/me/base")
        flat = {path.removeprefix("unet/").removeprefix("scheduler/"): data for path, data in model.items()}
        server.repositories["models/me/flat"] = flat
        server.repositories["models/me/large"] = {"model_index.json": b'{"_class_name": "StableDiffusionPipeline"}',
                                                  "unet/diffusion_pytorch_model.safetensors": b"much"}
        shapes = {f"train/{kind}/{i}.png": png(level + i) for kind, level in (("bright", 200), ("dark", 0))
                  for i in range(4)}
        server.repositories["datasets/me/shapes"] = {"README.md": b"# Shapes\n", **shapes}
        yield server


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (level,) * 3).save(file, "PNG")
    return file.getvalue()


def lab(server: Hub, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """The lab's command line, in a program that takes the server for the hub."""
    environment = {**os.environ, **server.environment(str(home / "hub-home")), **more}
    return subprocess.run([sys.executable, "-m", "pipelines.lab", *arguments], cwd=ROOT, env=environment, timeout=300,
                          capture_output=True, text=True)


def tune(model: str, output: Path, *arguments: str) -> tuple[str, ...]:
    return ("finetune", "--model", f"hub:{model}", "--data", "digits:3", "--output", str(output), "--samples", "1",
            "--steps", "2", "--batch-size", "128", "--accumulation", "1", *arguments)


# Asks for models without a token, then runs command lines of the lab one after the other: torch starts once for all.
PROGRAM = """
import contextlib, io, json, runpy, sys
from pipelines.errors import ModelError
from pipelines.lab import hub
refusals, runs = [], []
for name in ("me/base", "me/nowhere", "me/large"):
    try:
        hub.model_folder(name)
    except ModelError as error:
        refusals.append(str(error))
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["lab", *arguments]
    out, said, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        try:
            runpy.run_module("pipelines.lab", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
    runs.append([code, out.getvalue(), said.getvalue()])
print(json.dumps([refusals, *runs]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def answers(stand_in, home):
    """What was said of models that cannot be had, and (exit code, output, errors) of two runs."""
    command_lines = [
        tune("me/base", home / "own", "--push-to", "me/threes", "--token", TOKEN),
        tune("me/flat", home / "other", "--push-to", "me/never", "--token", "hf_other")]
    environment = {**os.environ, **stand_in.environment(str(home / "hub-home"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(command_lines)], cwd=ROOT, env=environment,
                          timeout=600, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_private_model_is_fetched_fine_tuned_and_pushed_with_a_card_that_names_it(stand_in, home, answers):
    code, output, errors = answers[1]
    assert code == 0, errors
    assert f"Uploaded to {stand_in.origin}/me/threes" in output
    pushed = stand_in.repositories["models/me/threes"]
    assert sorted(pushed) == UPLOADED and "models/me/threes" in stand_in.private
    for name, data in pushed.items():
        assert (home / "own" / name).read_bytes() == data
    card = pushed["README.md"].decode()
    assert 'from_pretrained("me/threes")' in card and "me/base" in card and "183 pictures" in card
    assert TOKEN not in output + errors and not any(TOKEN.encode() in data for data in pushed.values())


def test_a_model_with_its_weights_at_the_top_is_fetched_too_and_a_token_that_may_not_write_is_said(stand_in, home,
                                                                                                   answers):
    code, _, errors = answers[2]
    assert code == 1
    assert errors.strip().splitlines()[-1] == (
        "The result is saved here, but me/never on the hub did not take it. May this token write there, and is the "
        "network up?")
    assert (home / "other" / "model_index.json").exists() and "models/me/never" not in stand_in.repositories


def test_what_is_private_without_a_token_or_another_kind_of_model_is_said_and_nothing_large_fetched(stand_in, answers):
    private, nowhere, other = answers[0]
    assert "me/base cannot be fetched" in private and "token" in private and "me/nowhere cannot be fetched" in nowhere
    assert other == "Model: me/large is a StableDiffusionPipeline. Here a DDPMPipeline is needed."
    assert not any("me/large/resolve" in path and "safetensors" in path for path in stand_in.asked)


def test_a_data_set_of_the_hub_is_fetched_by_its_id_and_learned_from(stand_in, tmp_path):
    pytest.importorskip("datasets", reason="it is not installed with the app: pip install datasets")
    done = lab(stand_in, tmp_path, "train", "--data", "hub:me/shapes", "--output", str(tmp_path / "run"), "--side", "8",
               "--width", "16", "--samples", "0", "--epochs", "1", "--validation", "0")
    assert "8 pictures, 0 held out" in done.stdout, done.stderr
    assert checkpoints.load_model(tmp_path / "run").classes == ("bright", "dark")


def test_weights_and_biases_gets_every_loss(stand_in, tmp_path):
    pytest.importorskip("wandb", reason="it is not installed with the app: pip install wandb")
    done = lab(stand_in, tmp_path, *tune("me/flat", tmp_path / "out", "--wandb"), WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    losses = set(re.findall(rb"loss\x82\x01.([\d.]+)", file.read_bytes()))  # each key with its value as JSON
    assert len(losses) == 2 and all(0 < float(loss) < 10 for loss in losses)  # 183 pictures, 128 an update
