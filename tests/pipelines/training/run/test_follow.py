"""What a run's folder tells of it, without torch and without the process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.errors import StudioError
from pipelines.machine import processes
from pipelines.training.events import CheckpointSaved, Ended, Notice, SampleSaved, Started, StepDone, from_line, to_line
from pipelines.training.run import follow
from pipelines.training.run.folder import Commands, EventLog, RunFolder, owned, read_events, write_json

STARTED = Started(0, 10, 5, 1, 100, "CPU")


def step(number: int) -> StepDone:
    return StepDone(number, 10, 0.5, 1e-4, 0.1, 2.0, 3.0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_every_event_survives_its_line():
    for event in (STARTED, step(3), Ended(4, "stopped", "A text with\nlines and ü", "x")):
        assert from_line(to_line(event, 1.5)) == event
    assert from_line('{"event": "OfTheFuture", "step": 1}') is None
    assert from_line('{"event": "Notice", "st') is None


def test_the_log_is_followed_from_any_point_and_a_cut_line_waits(folder):
    log = EventLog(folder)
    log.write(STARTED)
    events, offset = read_events(folder)
    assert events == [STARTED]
    with folder.log_file.open("a") as file:
        file.write(to_line(step(1), 0)[:20])
    assert read_events(folder, offset) == ([], offset)
    EventLog(folder).write(step(2))  # the next process ends the line that the dead one began
    assert read_events(folder, offset)[0] == [step(2)]


def test_what_was_lost_is_left_out_of_the_history(folder):
    log = EventLog(folder)
    for event in (STARTED, step(1), step(2), CheckpointSaved(2, "a", "b"), step(3), step(4),
                  Started(2, 10, 5, 1, 100, "CPU"), step(3)):
        log.write(event)
    assert [event.step for event in follow.history(folder.path) if isinstance(event, StepDone)] == [1, 2, 3]


def test_how_it_ended_is_told_from_the_folder(folder):
    assert follow.state(folder.path).how == "new"
    log = EventLog(folder)
    with owned(folder):
        log.write(STARTED)
        log.write(step(3))
        found = follow.state(folder.path)
        assert (found.how, found.step, found.steps) == ("running", 3, 10)
    assert follow.state(folder.path).how == "killed"  # gone without a word
    log.write(Ended(3, "paused", "Everything is saved."))
    assert follow.state(folder.path).how == "paused"
    # A later process died while it was loading, before it could say anything.
    write_json(folder.status_file, {**processes.describe(os.getpid()), "pid": 2**22 + 1})
    assert follow.state(folder.path).how == "killed"


def test_a_process_that_has_not_spoken_yet_is_starting_from_what_is_saved(folder):
    log = EventLog(folder)
    for event in (STARTED, CheckpointSaved(2, "a", "b"), step(3)):
        log.write(event)
    os.utime(folder.log_file, (1, 1))  # of an earlier process
    with owned(folder):
        found = follow.state(folder.path)
        assert (found.how, found.step, found.steps, found.is_alive) == ("starting", 2, 10, True)
        log.write(Started(2, 10, 5, 1, 100, "CPU"))
        assert follow.state(folder.path).how == "running"


def test_what_is_asked_while_a_process_starts_is_not_lost(folder):
    follow.ask(folder.path, "pause")
    assert Commands(folder).read() == ["pause"]


def test_a_number_that_belongs_to_another_process_now_is_not_taken_for_the_run(folder):
    status = processes.describe(os.getpid())
    write_json(folder.status_file, status)
    assert folder.is_alive
    write_json(folder.status_file, {**status, "started": "5"})
    assert not folder.is_alive


def test_a_run_lives_when_the_clock_is_set(folder, monkeypatch):
    """The system counts a process's date back from the clock, and the log gets the new time."""
    log = EventLog(folder)
    began = psutil.Process.create_time
    for seconds in (2.0, -2.0, 3600.0):
        with owned(folder):
            monkeypatch.setattr(psutil.Process, "create_time", lambda process, by=seconds: began(process) + by)
            assert follow.state(folder.path).how == "starting"
            log.write(STARTED)
            os.utime(folder.log_file, (1, 1))
            assert follow.state(folder.path).how == "running"
            assert not Commands(folder).read()
            follow.ask(folder.path, "stop")
            os.utime(folder.commands_file, (1, 1))
            assert Commands(folder).read() == ["stop"]
        folder.commands_file.unlink()


def test_a_run_lives_when_its_machine_gets_another_name(folder):
    write_json(folder.status_file, {**processes.describe(os.getpid()), "host": "by-another-name"})
    os.utime(folder.status_file, (1, 1))
    assert folder.is_alive


def test_what_was_asked_of_an_earlier_process_is_not_done(folder):
    write_json(folder.status_file, {**processes.describe(os.getpid()), "started": "5"})
    follow.ask(folder.path, "stop")
    assert Commands(folder).read() == []


def test_a_process_that_was_written_over_tells_again_that_it_lives(folder, monkeypatch):
    monkeypatch.setattr("pipelines.training.run.folder.HEARTBEAT_S", 0.01)
    with owned(folder):
        own = folder.status()
        write_json(folder.status_file, {**own, "pid": 2**22 + 1})  # of a second process, that ends at the lock
        end = time.monotonic() + 300
        while folder.status() != own and time.monotonic() < end:
            time.sleep(0.01)
        assert folder.status() == own and folder.is_alive
    assert folder.status() is None


def test_a_process_of_another_machine_lives_as_long_as_its_heart_beats(folder):
    write_json(folder.status_file, {"pid": 1, "started": "1", "boot": "another", "host": "elsewhere"})
    assert folder.is_alive
    os.utime(folder.status_file, (1, 1))
    assert not folder.is_alive


def test_one_process_alone_owns_a_folder(folder):
    with owned(folder), pytest.raises(StudioError, match="another process"), owned(folder):
        pass
    with owned(folder):
        pass


def test_commands_are_read_once_and_old_ones_not_at_all(folder):
    follow.ask(folder.path, "stop")
    os.utime(folder.commands_file, (1, 1))  # of an earlier process
    commands = Commands(folder)
    assert commands.read() == []
    follow.ask(folder.path, "sample")
    follow.ask(folder.path, "pause")
    assert commands.read() == ["sample", "pause"] and commands.read() == []
    with pytest.raises(ValueError, match="explode"):
        follow.ask(folder.path, "explode")


def test_a_config_that_cannot_run_ends_with_its_reason(make_config, settings, tmp_path):
    process = follow.begin(make_config(model="nobody/nothing-here", device="cpu"), tmp_path / "run", settings)
    last = list(follow.follow(tmp_path / "run", poll_s=0.05))[-1]
    assert process.wait() == 1
    assert isinstance(last, Ended) and last.how == "failed"
    with pytest.raises(StudioError, match="already"):
        follow.begin(make_config(), tmp_path / "run", settings)


def test_a_sample_is_drawn_when_asked_for(make_config, settings, tmp_path):
    folder = tmp_path / "run"
    process = follow.begin(make_config(steps=100_000, sample_prompts=["a red cat"], sample_steps=2), folder, settings)
    for event in follow.follow(folder, poll_s=0.02):
        if isinstance(event, StepDone) and event.step == 1:
            follow.ask(folder, "sample")
        if isinstance(event, SampleSaved):
            assert (folder / event.file).is_file() and event.prompt == "a red cat"
            follow.ask(folder, "stop")
        assert not isinstance(event, Notice), event
    assert process.wait() == 0


def test_following_needs_no_torch():
    code = ("import sys; sys.modules['torch'] = None; import pipelines.training.run.follow, "
            "pipelines.training.presets, pipelines.training.dataset.survey, pipelines.training.dataset.archive, "
            "pipelines.training.__main__")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[4])
