"""The config: what is wrong is named, presets follow the pictures, what may change is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import RequestError
from pipelines.training.presets import PRESETS, resolve
from pipelines.training.request import TrainLora, changed_since, from_toml

SMALLEST = 'model = "demo"\ndata = "pictures"\noutput = "out"\nname = "mine"\n'


def read(tmp_path: Path, text: str) -> TrainLora:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return from_toml(file)


def test_the_smallest_config_is_four_lines_and_paths_are_relative_to_it(tmp_path):
    config = read(tmp_path, SMALLEST)
    assert (config.model, config.name) == ("demo", "mine")
    assert Path(config.data) == tmp_path / "pictures" and Path(config.output) == tmp_path / "out"


def test_a_model_beside_the_config_is_found_and_a_name_stays_a_name(tmp_path):
    (tmp_path / "folder").mkdir()
    assert Path(read(tmp_path, SMALLEST.replace("demo", "folder")).model) == tmp_path / "folder"
    assert read(tmp_path, SMALLEST.replace("demo", "someone/model")).model == "someone/model"


@pytest.mark.parametrize(("line", "said"), [
    ("leaning_rate = 1", "leaning_rate: there is no such key. Did you mean learning_rate"),
    ("rank = 0", "Rank: 0 is not possible"),
    ("rank = true", "Rank: True is not possible"),
    ("learning_rate = inf", "Learning rate: inf is not possible"),
    ('optimizer = "sgd"', "Optimizer: 'sgd' is not possible"),
    ("resolution = 513", "Resolution (px): 513 is not possible"),
    ("rank =", "not valid TOML"),
])
def test_what_is_wrong_is_named(tmp_path, line, said):
    with pytest.raises(RequestError) as error:
        read(tmp_path, f"{SMALLEST}{line}\n")
    assert said in str(error.value) and str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_config_may_have_a_byte_order_mark(tmp_path, codec):
    (tmp_path / "config.toml").write_bytes(SMALLEST.replace("mine", "größer").encode(codec))
    assert from_toml(tmp_path / "config.toml").name == "größer"


@pytest.mark.parametrize("path", ["C:\\Users\\ann", "D:\\pictures", "C:\\new\\train", "C:\\set\\"])
def test_backslashes_within_double_quotes_are_explained(tmp_path, path):
    with pytest.raises(RequestError, match="backslash begins an escape: put the path into single quotes"):
        read(tmp_path, SMALLEST.replace("pictures", path))
    assert read(tmp_path, SMALLEST.replace('"pictures"', f"'{path}'")).data.endswith(path)


def test_a_fault_that_has_nothing_to_do_with_backslashes_is_told_without_them(tmp_path):
    with pytest.raises(RequestError, match=r"not valid TOML \([^)]*\(at line 5, column 8\)\)\.$"):
        read(tmp_path, SMALLEST.replace('"pictures"', "'C:\\pictures'") + "rank = \n")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a\\b", "x" * 100])
def test_a_name_that_would_lead_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(RequestError, match="Name"):
        read(tmp_path, SMALLEST.replace('"mine"', repr(name)))


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(RequestError, match="output: missing. The smallest config has model, data, output, name"):
        read(tmp_path, 'model = "demo"\ndata = "x"\nname = "y"\n')


def test_presets_fill_what_was_not_given_and_follow_the_pictures(tmp_path):
    config = read(tmp_path, SMALLEST)
    few, many = (resolve(config, pictures=count, native_size=512, unet_parameters=860_000_000) for count in (5, 500))
    assert many.steps > few.steps
    for concrete in (few, many):
        assert all(getattr(concrete, name) is not None for name in (
            "rank", "alpha", "learning_rate", "text_encoder_learning_rate", "steps", "batch_size", "resolution"))
    row = PRESETS["style"]["balanced"]
    assert (few.rank, few.alpha, few.learning_rate) == (row.rank, row.alpha, row.learning_rate)
    given = read(tmp_path, f"{SMALLEST}rank = 4\nsteps = 7\nlearning_rate = 0.5\n")
    concrete = resolve(given, pictures=5, native_size=512, unet_parameters=860_000_000)
    assert (concrete.rank, concrete.alpha, concrete.steps, concrete.learning_rate) == (4, 4, 7, 0.5)


def test_a_small_model_gets_convolutions_larger_steps_and_half_the_rank_unless_told_otherwise(tmp_path):
    facts = dict(pictures=24, native_size=128, unet_parameters=6_500_000)
    config, large = (resolve(read(tmp_path, SMALLEST), **facts | more) for more in ({}, {"unet_parameters": 10**9}))
    assert (config.targets, large.targets) == ("attention+ff+conv", "attention+ff")
    assert config.rank == config.alpha == large.rank / 2 and config.learning_rate == 5 * large.learning_rate
    assert resolve(read(tmp_path, f'{SMALLEST}targets = "attention"\n'), **facts).targets == "attention"


def test_only_what_no_weight_depends_on_may_change_before_a_run_goes_on(tmp_path):
    begun = read(tmp_path, SMALLEST)
    assert changed_since(begun, read(tmp_path, f"{SMALLEST}steps = 9\nkeep_last = 1\n")) is None
    assert changed_since(begun, read(tmp_path, f"{SMALLEST}rank = 9\n")) == "rank"


def test_help_explains_every_key(capsys):
    from pipelines.training.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    for name, info in TrainLora.model_fields.items():
        assert f"  {name} (" in shown and info.description in shown


@pytest.mark.parametrize("name", ["adamw8bit", "prodigy"])
def test_an_optimizer_whose_package_is_missing_is_named(tmp_path, monkeypatch, name):
    import sys

    from pipelines.training.numbers import optimizers

    package = optimizers.EXTRA[name][0]
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, package.split(".")[0], None)
    with pytest.raises(RequestError, match=f"{name}.* needs the package {package.split('.')[0]}"):
        optimizers.make(read(tmp_path, f'{SMALLEST}optimizer = "{name}"\n'), [])


@pytest.mark.parametrize(("scheduler", "points"), [
    ("constant", (1, 1, 1)), ("linear", (1, 0.5, 0.01)), ("cosine", (1, 0.5, 0.0003)), ("restarts", (1, 0.5, 0.003))])
def test_the_learning_rate_warms_up_and_follows_its_schedule(tmp_path, scheduler, points):
    from pipelines.training.numbers.optimizers import rate

    config = read(tmp_path, f'{SMALLEST}scheduler = "{scheduler}"\nsteps = 110\nwarmup = {10 / 110}\n')
    assert [rate(config, i) for i in range(10)] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert [rate(config, i) for i in (10, 60, 109)] == pytest.approx(points, abs=0.02)
