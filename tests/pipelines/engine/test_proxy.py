"""An engine in a process of its own: the same pictures, and what becomes of jobs when one of the two processes ends."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines import errors, events
from pipelines.engine.engine import Engine
from pipelines.engine.order import Assets, Order
from pipelines.engine.proxy import EngineProcess
from pipelines.errors import Cancelled, EngineLost, RequestError, StudioError
from pipelines.events import ImageReady, StepDone
from pipelines.queue.control import Control
from pipelines.requests import TASKS, Txt2Img, changed, make
from pipelines.requests.caller import Caller
from pipelines.settings import Settings, load
from pipelines.studio.studio import Studio
from pipelines.sweeps.grid import Axis, Matrix

ROOT = Path(__file__).parents[3]
RED = make(Txt2Img, prompt="a red cat", steps=3, width=64, height=64, seed=5, sampler="Euler a", schedule="Automatic",
           guidance_scale=4.0)
LONG = changed(RED, steps=150, batch_count=16)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, sd_folder: Path) -> Settings:
    flags = ["--data-dir", str(tmp_path_factory.mktemp("engine")), "--model", str(sd_folder), "--threads", "1"]
    return load(flags, {})


@pytest.fixture(scope="module")
def studio(settings: Settings) -> Iterator[Studio]:
    studio = Studio(settings, start=EngineProcess)
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def engine(studio: Studio) -> EngineProcess:
    return studio._engines[0]


@pytest.fixture(scope="module")
def order(studio: Studio) -> Order:
    return Order("txt2img", RED, Assets(studio.collection.default_card()))


def until_gone(process: psutil.Process) -> None:
    end = time.monotonic() + 120
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the process lives on"
        time.sleep(0.05)


def long_one(order: Order) -> Order:
    return Order("txt2img", LONG, order.assets)


def pixels(found: Iterator[object]) -> list[np.ndarray]:
    return [np.asarray(event.image) for event in found if isinstance(event, ImageReady)]


def test_a_picture_is_the_same_in_either_process(engine: EngineProcess, order: Order, settings: Settings) -> None:
    (own,), (theirs,) = pixels(Engine(settings).run(order)), pixels(engine.run(order))
    assert np.array_equal(own, theirs)
    (resident,) = engine.standing.loaded
    assert resident.name == order.assets.card.name and "CPU, 1 thread" in engine.standing.device_line


def test_stop_and_skip_reach_the_other_process(engine: EngineProcess, order: Order) -> None:
    control, first = Control(), []
    running = engine.run(long_one(order), control)
    for event in running:
        first += [event.image] if isinstance(event, StepDone) else []
        if len(first) == 1:
            control.skip.set()
        if first and first[-1] > 1:  # the next picture
            break
    assert not control.skip.is_set()
    control.stop.set()
    with pytest.raises(Cancelled):
        list(running)


def test_a_reader_that_goes_away_stops_the_order_and_leaves_the_engine_usable(engine: EngineProcess, order: Order
                                                                             ) -> None:
    running = engine.run(long_one(order))
    next(event for event in running if isinstance(event, StepDone))
    running.close()
    assert len(pixels(engine.run(order))) == 1


def test_questions_are_answered_while_it_draws(engine: EngineProcess, order: Order) -> None:
    running = engine.run(long_one(order))
    next(event for event in running if isinstance(event, StepDone))
    assert engine.need(order.assets.card, 512, 512).startswith("Needs about ")
    running.close()


def test_errors_cross_with_what_they_say(engine: EngineProcess, order: Order) -> None:
    wrong = Order("txt2img", changed(RED, clip_skip=12), order.assets)
    with pytest.raises(RequestError) as caught:
        list(engine.run(wrong))
    assert caught.value.field == "clip_skip"


def test_a_killed_engine_costs_one_job(studio: Studio, engine: EngineProcess) -> None:
    job, waiting = studio.submit(LONG), studio.submit(RED)
    next(event for event in job.follow() if isinstance(event, StepDone))
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineLost, match="was killed"):
        job.wait(60)
    assert len(waiting.wait(300).records) == 1


def test_an_engine_that_hangs_is_ended_by_a_restart(studio: Studio, engine: EngineProcess,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    job = studio.submit(LONG)
    next(event for event in job.follow() if isinstance(event, StepDone))
    hanging = psutil.Process(engine.pid)
    hanging.suspend()
    monkeypatch.setattr("pipelines.queue.stall.AFTER_S", 0.0)
    monkeypatch.setattr("pipelines.queue.stall.STEPS", 0)
    studio.restart_worker()
    with pytest.raises(StudioError, match="was restarted"):
        job.wait(60)
    until_gone(hanging)
    assert studio.status().queue_length == 0


def test_an_engine_ends_with_its_app(settings: Settings) -> None:
    script = settings.data_dir / "program.py"
    script.write_text(textwrap.dedent("""
        import sys, time
        from pipelines.engine.proxy import EngineProcess
        from pipelines.settings import load
        if __name__ == "__main__":
            engine = EngineProcess(load(sys.argv[1:], {}))
            engine.open()
            print(engine.pid, flush=True)
            time.sleep(600)
    """))
    app = subprocess.Popen([sys.executable, str(script), "--data-dir", str(settings.data_dir)], cwd=ROOT,
                           env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    engine = psutil.Process(int(app.stdout.readline()))
    app.kill()
    app.wait()
    until_gone(engine)


@pytest.mark.parametrize("error", [
    StudioError("a"), RequestError("b", "steps"), errors.ModelError("c"), errors.OutOfMemory("d"), Cancelled("e"),
    EngineLost("f"), errors.QueueFull("g")], ids=lambda error: type(error).__name__)
def test_errors_survive_pickling(error: StudioError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)


@pytest.mark.parametrize("cls", TASKS.values(), ids=lambda cls: cls.__name__)
def test_requests_survive_pickling_and_json(cls: type) -> None:
    needed = {name: "a" * 64 for name in ("image", "mask") if name in cls.model_fields}
    request = make(cls, prompt="a <lora:b:1>", seed=7, texts=(("a", "b"),), **needed)
    assert pickle.loads(pickle.dumps(request)) == request
    assert cls.model_validate_json(request.model_dump_json()) == request


def test_events_survive_pickling(order: Order) -> None:
    picture = Image.new("RGB", (8, 8), "red")
    record = events.Record(Path("a.png"), "text", 1, 8, 8, "txt2img")
    told = [events.Loading("a"), StepDone(1, 2, 1, 1, 3.0, 4.0, picture), events.Notice("b"),
            ImageReady(picture, RED, {"Mask blur": 4}), events.Saved(record), events.Pictured(Path("a"), "c"),
            events.Tabled("d", ("x",), ((1,),)), events.Finished((record,), 1.0), order]
    for event in told:
        assert pickle.loads(pickle.dumps(event)) == event


def test_two_engines_share_a_grid_and_each_picture_is_as_alone(tmp_path: Path, sd_folder: Path, order: Order,
                                                               settings: Settings) -> None:
    flags = ["--data-dir", str(tmp_path), "--model", str(sd_folder), "--device", "cpu,cpu", "--threads", "1"]
    studio = Studio(load(flags, {}), start=EngineProcess)
    try:
        job = studio.submit(Matrix(changed(RED, steps=8), Axis("seed", (1, 2, 3, 4, 5, 6))), Caller(page="p"))
        records = job.wait(600).records
        assert all(engine.standing.loaded for engine in studio._engines)
    finally:
        studio.close()
    assert [record.is_grid for record in records] == [False] * 6 + [True]
    alone, sheet = Engine(settings), np.asarray(Image.open(records[-1].path))
    for record in records[:-1]:
        one = Order("txt2img", changed(RED, steps=8, seed=record.seed), order.assets)
        (expected,) = pixels(alone.run(one))
        assert np.array_equal(np.asarray(Image.open(record.path)), expected), record.seed
        left = (record.seed - 1) * (64 + 4)  # whichever was ready first, each stands in its own column
        assert np.array_equal(sheet[-64:, left:left + 64], expected), record.seed
