"""Training through the studio: datasets, a run in the queue, its LoRA in the next prompt, stop and resume."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from pipelines.errors import RequestError, StudioError
from pipelines.queue.jobs import JobQueue
from pipelines.requests import Txt2Img, make
from pipelines.settings import load
from pipelines.studio.studio import Studio
from pipelines.studio.works import Merge, ResumeRun, Train
from pipelines.training.dataset import archive
from pipelines.training.dataset.store import EXAMPLE, Datasets
from pipelines.training.example import DRAWINGS
from pipelines.training.request import TrainLora
from pipelines.training.run import follow
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.store import Runs, TrainRun

QUICK = dict(prompt="a cat", steps=2, width=64, height=64, seed=5)
SHORT = dict(name="ink", steps=6, rank=2, batch_size=2, resolution=64, save_every=2, sample_every=0)


def drawings(folder, count=4):
    folder.mkdir(exist_ok=True)
    for path in sorted(DRAWINGS.glob("*.png"))[:count]:
        shutil.copy(path, folder)
        shutil.copy(path.with_suffix(".txt"), folder)
    return sorted(folder.iterdir())


def picture(studio, prompt, **values):
    record = studio.submit(make(Txt2Img, **{**QUICK, "prompt": prompt, **values})).wait(600).records[0]
    return Image.open(record.path).tobytes()


def test_a_run_gives_a_lora_that_the_next_prompt_can_use(studio, tmp_path):
    name = studio.datasets.add(drawings(tmp_path / "mine"), "my cats")
    studio.submit(Train(name, SHORT)).wait(300)
    (run,) = studio.runs.cards()
    assert (run.name, run.state.how, run.state.step) == ("ink", "finished", 6)
    assert "ink" in [card.name for card in studio.collection.loras()]
    assert picture(studio, "a cat <lora:ink:8>") != picture(studio, "a cat")

    studio.submit(Merge(None, dict(lora="ink", name="ink whole", strength=2.0))).wait(600)
    assert "ink whole" in [card.name for card in studio.collection.cards()]
    merged = np.frombuffer(picture(studio, "a cat", model="ink whole"), np.uint8).astype(int)
    beside = np.frombuffer(picture(studio, "a cat <lora:ink:2>"), np.uint8).astype(int)
    assert np.abs(merged - beside).mean() < 2  # float16 on the disk
    with pytest.raises(RequestError, match="there is 'ink whole' already"):
        studio.submit(Merge(None, dict(lora="ink", name="ink whole")))


def test_a_fully_trained_model_is_in_the_list_by_itself(studio, tmp_path):
    name = studio.datasets.add(drawings(tmp_path / "mine"), "mine")
    with pytest.raises(RequestError, match="there is no dataset"):
        studio.submit(Train(name, dict(**SHORT, prior_data="/etc")))
    whole = {**SHORT, "name": "whole", "steps": 2, "prior_data": EXAMPLE, "method": "full"}
    studio.submit(Train(name, whole)).wait(300)
    studio.collection.library.wait_for_scan(60)
    assert "whole" in [card.name for card in studio.collection.cards()]
    assert studio.runs.card("whole").config.prior_data == str(DRAWINGS)


def test_a_forecast_trains_nothing_and_the_run_can_begin_afterwards(studio, tmp_path):
    name = studio.datasets.add(drawings(tmp_path / "mine"), "mine")
    studio.submit(Train(name, SHORT, only_probe=True)).wait(300)
    (run,) = studio.runs.cards()
    assert (run.state.how, run.state.step, run.state.can_resume) == ("probed", 0, True)
    assert "ink" not in [card.name for card in studio.collection.loras()]


def test_folders_of_the_server_can_be_chosen_by_name(tmp_path, sd_folder):
    (tmp_path / "sets" / "photos").mkdir(parents=True)
    drawings(tmp_path / "sets" / "photos", 2)
    datasets = Datasets(tmp_path / "own", tmp_path / "sets")
    (tmp_path / "sets" / "linked").symlink_to(tmp_path / "sets" / "photos")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "elsewhere").symlink_to(tmp_path / "sets" / "photos")  # nothing that we put there
    assert datasets.names() == ("linked", "photos", EXAMPLE)
    assert len(datasets.look("photos", resolution=64)) == 2
    assert datasets.name_of(tmp_path / "sets" / "photos") == "photos" and datasets.name_of(tmp_path) is None
    with pytest.raises(RequestError, match="only read"):
        datasets.caption("photos", "bicycle.png", "a bike")


def test_a_stopped_run_is_resumed_to_its_end(studio, tmp_path):
    name = studio.datasets.add(drawings(tmp_path / "mine"), "mine")
    job = studio.submit(Train(name, {**SHORT, "steps": 100_000}))
    folder = studio.runs.card("ink").folder
    while not (studio.runs.card("ink").state.step or job.done):
        job.control.leave.wait(0.2)
    job.stop()
    job.wait(600)
    state = studio.runs.card("ink").state
    assert state.how == "stopped" and state.saved_step == state.step > 0 and not RunFolder(folder).is_alive
    again = studio.submit(ResumeRun("ink"))
    while studio.runs.card("ink").state.how != "running" or studio.runs.card("ink").state.step <= state.step:
        assert not again.done
        again.control.leave.wait(0.2)
    waits = studio.submit(make(Txt2Img, **QUICK))
    assert waits.position == 1  # the device is the run's
    studio.runs.ask("ink", "pause")
    again.wait(600)
    assert studio.runs.card("ink").state.how == "paused"
    assert waits.wait(600).records and picture(studio, "a dog")  # paused, it is everybody's again


def test_a_run_that_waits_for_its_turn_keeps_its_name_and_is_queued_once(studio):
    before = studio.submit(make(Txt2Img, **{**QUICK, "steps": 150, "batch_count": 16}))
    job = studio.submit(Train(EXAMPLE, SHORT))
    with pytest.raises(RequestError, match="'ink' waits for its turn"):
        studio.submit(Train(EXAMPLE, {**SHORT, "steps": 7}))
    with pytest.raises(RequestError, match="'ink' waits for its turn"):
        studio.submit(ResumeRun("ink"))
    assert studio.runs.card("ink").config.steps == 6
    job.stop()
    before.stop()


def test_a_run_that_waits_says_so_and_is_taken_out_of_the_queue_by_stop(studio):
    before = studio.submit(make(Txt2Img, **{**QUICK, "steps": 150, "batch_count": 16}))
    job = studio.submit(Train(EXAMPLE, SHORT))
    state = studio.training.run("ink").state
    assert (state.how, state.before, state.is_alive, state.can_resume) == ("waiting", 1, False, False)
    assert studio.training.stop("ink")
    assert job.done and job.stopped and studio.status().queue_length == 1
    state = studio.training.run("ink").state
    assert (state.how, state.can_resume, state.text) == ("new", True, "Resume begins it.")

    # One that never began leaves its name free, and nothing behind.
    studio.submit(Train(EXAMPLE, {**SHORT, "steps": 4}))
    assert [card.name for card in studio.runs.cards()] == ["ink"] and studio.training.stop("ink")
    again = studio.submit(ResumeRun("ink"))
    assert studio.training.run("ink").state.how == "waiting"
    before.stop()
    again.wait(300)
    assert (studio.training.run("ink").state.how, studio.training.run("ink").state.step) == ("finished", 4)


def test_a_run_that_waits_to_go_on_keeps_what_it_has_when_it_is_stopped(studio, tmp_path):
    name = studio.datasets.add(drawings(tmp_path / "mine"), "mine")
    job = studio.submit(Train(name, {**SHORT, "steps": 100_000}))
    while not (studio.training.run("ink").state.step or job.done):
        job.control.leave.wait(0.2)
    assert studio.training.run("ink").state.how == "running"
    assert not studio.training.stop("ink")  # it works: it finishes its step and saves
    job.wait(600)
    ended = studio.training.run("ink").state
    assert ended.how == "stopped" and ended.saved_step == ended.step > 0
    before = studio.submit(make(Txt2Img, **{**QUICK, "steps": 150, "batch_count": 16}))
    studio.submit(ResumeRun("ink"))
    assert studio.training.run("ink").state.how == "waiting" and studio.training.stop("ink")
    assert studio.training.run("ink").state == ended
    before.stop()


def test_a_run_stopped_while_the_device_is_made_free_for_it_starts_no_process(tmp_path):
    settings = load(["--data-dir", str(tmp_path)], {})
    runs = Runs(settings)
    run = TrainRun(runs.prepare(make(TrainLora, **SHORT, model="m", data="d", output="o")), "begin")

    def work(job):
        job.stop()  # in that moment
        yield from runs.work(job, run, settings)

    queue = JobQueue(work)
    assert queue.submit(run, "train").wait(30).stopped
    assert runs.card("ink").state.how == "new" and not RunFolder(runs.card("ink").folder).output_file.exists()
    queue.close()


def test_a_run_outlives_its_app_and_the_next_one_takes_it_up_again(tmp_path, sd_folder):
    flags = ["--data-dir", str(tmp_path / "data"), "--model", str(sd_folder)]
    drawings(tmp_path / "mine")
    (tmp_path / "data" / "loras").mkdir(parents=True)
    config = make(TrainLora, **{**SHORT, "steps": 100_000}, model=str(sd_folder), data=str(tmp_path / "mine"),
                  output=str(tmp_path / "data" / "loras"))
    process = follow.begin(config, tmp_path / "data" / "runs" / "ink", load(flags, {}))  # as the app did that is gone
    studio = Studio(load(flags, {}))
    try:
        assert studio.training.run("ink").state.is_alive and studio.status().queue_length == 1
        waits = studio.submit(make(Txt2Img, **QUICK))
        assert waits.position == 1  # the device is still the run's
        while studio.training.run("ink").state.step < 2:
            assert process.poll() is None
            waits.control.leave.wait(0.2)
        with pytest.raises(RequestError, match="is running and cannot go on"):
            studio.submit(ResumeRun("ink"))
        assert not studio.training.stop("ink")
        assert waits.wait(600).records
        assert (studio.training.run("ink").state.how, process.wait(600)) == ("stopped", 0)
    finally:
        studio.close()


def test_a_run_is_told_how_its_app_was_started_and_reads_no_settings_by_itself(tmp_path, sd_folder, monkeypatch):
    home, data = tmp_path / "home", tmp_path / "elsewhere"
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    monkeypatch.setenv("ATELIER_DEVICE", "cuda:7")  # of another app: a process that read it could not work
    flags = ["--data-dir", str(data), "--model-dir", str(sd_folder.parent), "--offline", "--device", "cpu"]
    app = load(flags, {"ATELIER_HF_TOKEN": "hf_secret", "ATELIER_AUTH": "ann:a good password"})
    studio = Studio(app)
    try:
        studio.collection.library.refresh()
        studio.collection.library.wait_for_scan(60)
        checkpoints = studio.collection.library.entries(kind="checkpoint")
        (id,) = (entry.id for entry in checkpoints if entry.name == sd_folder.name)
        studio.collection.choose_prediction(id, "v_prediction")
        name = studio.datasets.add(drawings(tmp_path / "mine"), "mine")
        studio.submit(Train(name, dict(model=sd_folder.name, **{**SHORT, "steps": 2}), only_probe=True)).wait(300)
        studio.collection.choose_prediction(id, "epsilon")  # of no account for a run that has been asked for
        studio.submit(ResumeRun("ink")).wait(300)
        folder = RunFolder(studio.runs.card("ink").folder)
        assert studio.training.run("ink").state.how == "finished", studio.training.run("ink").state
    finally:
        studio.close()
    with safe_open(data / "loras" / "ink.safetensors", "pt") as file:
        assert file.metadata()["modelspec.prediction_type"] == "v"
    written = folder.settings_file.read_text()
    assert "hf_secret" not in written and "good password" not in written
    told = folder.settings()
    assert (told.data_dir, told.model_dir, told.offline, told.device) == (data, (sd_folder.parent,), True, "cpu")
    assert not home.exists()


def test_a_run_that_cannot_work_says_why(studio, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    name = studio.datasets.add([tmp_path / "bad.png"], "bad")
    with pytest.raises(StudioError, match="none of the 1 pictures can be used"):
        studio.submit(Train(name, SHORT)).wait(600)
    assert studio.runs.card("ink").state.how == "failed"


@pytest.mark.parametrize(("values", "message"), [
    (dict(name="../x"), "Name"), (dict(name="a", rank=0), "Rank"), (dict(name="a", steps="6"), "Steps"),
    (dict(name="a", nonsense=1), "nonsense")])
def test_bad_configs_are_refused_at_once(studio, values, message):
    with pytest.raises(RequestError, match=message):
        studio.submit(Train(EXAMPLE, values))
    assert studio.runs.cards() == ()


def test_an_unknown_dataset_is_refused_by_name(studio):
    for name in ("nothing", "../../etc", "/etc"):
        with pytest.raises(RequestError, match="there is no dataset"):
            studio.submit(Train(name, SHORT))


def test_training_is_off_for_a_public_page_unless_allowed(tmp_path, sd_folder):
    flags = ["--data-dir", str(tmp_path), "--model", str(sd_folder), "--share"]
    public = Studio(load(flags, {}))
    try:
        with pytest.raises(StudioError, match="--guests-may-train"):
            public.submit(Train(EXAMPLE, SHORT))
    finally:
        public.close()
    assert load([*flags, "--guests-may-train"], {}).guests_may_train


def test_captions_are_written_beside_our_copy_and_the_originals_stay(studio, tmp_path):
    files = drawings(tmp_path / "mine")
    name = studio.datasets.add(files, "mine")
    first = studio.datasets.look(name, resolution=64)[0]
    studio.datasets.caption(name, first.name, " a new  caption\n\nanother ")
    assert studio.datasets.look(name, resolution=64)[0].captions == ("a new caption", "another")
    assert "new" not in (tmp_path / "mine" / first.name).with_suffix(".txt").read_text()
    with pytest.raises(RequestError, match="only read"):
        studio.datasets.caption(EXAMPLE, first.name, "x")
    with pytest.raises(RequestError, match="there is no picture"):
        studio.datasets.caption(name, "../../x.png", "x")


def test_what_of_an_upload_is_not_used_is_told_and_two_files_of_one_name_are_refused(studio, tmp_path):
    files = drawings(tmp_path / "mine", 2)
    first, second = (path for path in files if path.suffix == ".png")
    for path in files:
        if path.suffix == ".txt":
            path.unlink()
    (tmp_path / "metadata.csv").write_text(f"file_name,text\nimages/{first.name},a red cat\ngone.png,a dog\n")
    second.with_suffix(".TXT").write_text("a blue dog\na dog")
    (tmp_path / "notes.md").write_text("x")
    added = [first, second, second.with_suffix(".TXT"), tmp_path / "metadata.csv", tmp_path / "notes.md"]
    name = studio.datasets.add(added, "mine")
    found = studio.datasets.look(name, resolution=64)
    assert [one.captions for one in found] == [("a red cat",), ("a blue dog", "a dog")]
    assert found.notes == ("metadata.csv: 1 of its lines name no picture here: gone.png.",
                           "Not used, as neither pictures nor captions: notes.md.")
    other = tmp_path / "other" / first.name.upper()
    other.parent.mkdir()
    shutil.copy(first, other)
    with pytest.raises(RequestError, match="two of the files are called .* Put them into a zip"):
        studio.datasets.add([first, other], "mine")
    (tmp_path / "metadata.csv").write_bytes(b"\n" * 20_000_000)
    with pytest.raises(RequestError, match="metadata.csv has more than 16 MB"):
        studio.datasets.add([first, tmp_path / "metadata.csv"], "mine")


def test_files_without_a_picture_and_mixed_zips_are_refused(studio, tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("x")
    with pytest.raises(RequestError, match="no picture among the files"):
        studio.datasets.add([text], "a")
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(RequestError, match="one zip, or pictures"):
        studio.datasets.add([text, tmp_path / "a.zip"], "a")
    assert studio.datasets.names() == (EXAMPLE,)


def test_a_second_dataset_of_one_name_gets_a_number(studio, tmp_path):
    files = drawings(tmp_path / "mine")
    assert [studio.datasets.add(files, "mine") for _ in range(2)] == ["mine", "mine-2"]


def test_two_pages_that_bring_a_zip_of_one_name_at_once_both_keep_their_pictures(tmp_path, monkeypatch):
    datasets = Datasets(tmp_path / "own")
    folder = tmp_path / "mine"
    drawings(folder, 1)
    zipped = Path(shutil.make_archive(tmp_path / "mine", "zip", folder))
    unpack, names = archive.unpack, []

    def slowly(*args):
        made = unpack(*args)
        if not names:  # meanwhile another page is quicker
            names.append("")
            names.append(datasets.add([zipped], "mine"))
        return made

    monkeypatch.setattr(archive, "unpack", slowly)
    assert [datasets.add([zipped], "mine"), names[1]] == ["mine-2", "mine"]
    assert all(list(datasets.folder(name).glob("*.png")) for name in ("mine", "mine-2"))
    assert len(list((tmp_path / "own").iterdir())) == 2  # nothing half made is left
