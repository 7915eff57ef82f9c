"""Several processes at one data folder: nobody's picture, name or line is lost, and one app alone works in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.errors import StudioError
from pipelines.machine.locks import APP_FILE, app_of, locked
from pipelines.prompts.styles import Styles, read

ROOT = Path(__file__).parents[3]
PICTURES, STYLES = 20, 15

# Each waits until all are there, so that they are at it together.
TOGETHER = """
import sys, time
from pathlib import Path
folder, me, all_of = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(folder / f"{me}.ready").touch()
while len(list(folder.glob("*.ready"))) < all_of:
    time.sleep(0.005)
"""
SAVE = f"""
from PIL import Image
from pipelines.history.store import Made, Results
{TOGETHER}
results = Results(folder / "outputs", embed=False)
for number in range({PICTURES}):
    (event,) = results.save(Made(Image.new("RGB", (8, 8), (int(me), number, 0)), "", 7, "txt2img", 1.0, me))
    print(event.record.id, flush=True)
    if number == {PICTURES} // 2:
        results.delete(event.record.id, me)
"""
STYLE = f"""
from pipelines.prompts.styles import Style, Styles
{TOGETHER}
for number in range({STYLES}):
    Styles(folder / "styles.csv").save(Style(f"{{me}}-{{number}}", "x"))
"""


def at_once(code: str, folder: Path, count: int = 3) -> Sequence[str]:
    """What each of several processes printed that ran the same code."""
    running = [subprocess.Popen([sys.executable, "-c", code, str(folder), str(number), str(count)], cwd=ROOT,
                                stdout=subprocess.PIPE, text=True) for number in range(count)]
    printed = [process.communicate(timeout=600)[0] for process in running]
    assert not any(process.returncode for process in running)
    return printed


def test_pictures_of_several_processes_keep_their_names_and_lines(tmp_path):
    printed = [text.split() for text in at_once(SAVE, tmp_path)]
    told = [(str(me), id) for me, ids in enumerate(printed) for number, id in enumerate(ids) if number != PICTURES // 2]
    (index,) = tmp_path.glob("outputs/*/index.jsonl")
    listed = [json.loads(line) for line in index.read_text().splitlines() if line]
    assert sorted((line["owner"], f"{index.parent.name}/{line['file']}") for line in listed) == sorted(told)
    assert {path.name for path in index.parent.glob("*.png")} == {id.partition("/")[2] for _, id in told}
    numbers = [line["file"][:5] for line in listed]
    assert len(set(numbers)) == len(numbers)


def test_what_several_processes_add_to_a_list_is_all_in_it(tmp_path):
    at_once(STYLE, tmp_path)
    assert len(read(tmp_path / "styles.csv")) == 3 * STYLES
    assert len(Styles(tmp_path / "styles.csv").all()) == 3 * STYLES


def test_what_another_process_found_out_about_a_model_is_kept(tmp_path):
    from dataclasses import replace

    from pipelines.demo import MODEL_DIR
    from pipelines.library.read.card import read_folder
    from pipelines.library.read.prediction import Predictions

    card = read_folder(MODEL_DIR, "tiny")
    other = replace(card, fingerprint="of another")
    here, there = Predictions(tmp_path), Predictions(tmp_path)
    here.choose(card, "v_prediction")
    there.choose(other, "v_prediction")
    known = Predictions(tmp_path)
    assert {known.told(one).predicts_by for one in (card, other)} == {"person"}


def test_a_second_app_is_told_who_works_in_the_folder(tmp_path):
    with app_of(tmp_path) as tell:
        tell("http://127.0.0.1:7861/")
        with pytest.raises(StudioError, match=rf"process {os.getpid()} at http://127\.0\.0\.1:7861/"), app_of(tmp_path):
            pass
        (tmp_path / APP_FILE).write_text("{")
        with pytest.raises(StudioError, match="another Atelier works in this folder"), app_of(tmp_path):
            pass
    with app_of(tmp_path):
        pass


def test_an_app_that_was_killed_holds_nothing(tmp_path):
    code = ("import os, sys\nfrom pathlib import Path\nfrom pipelines.machine.locks import app_of\n"
            "with app_of(Path(sys.argv[1])):\n    os._exit(9)")
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT).returncode == 9
    assert (tmp_path / APP_FILE).exists()
    with app_of(tmp_path):
        pass


def test_a_second_app_ends_with_one_line(tmp_path):
    with app_of(tmp_path) as tell:
        tell("http://127.0.0.1:7861/")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
        answer = subprocess.run([sys.executable, "app.py", "--data-dir", str(tmp_path)], cwd=ROOT, env=kept, text=True,
                                capture_output=True, timeout=300)
    assert answer.returncode == 2
    assert answer.stderr.startswith("data_dir: ") and "http://127.0.0.1:7861/" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1, answer.stderr


def test_a_lock_lets_one_thread_in_at_a_time(tmp_path):
    from threading import Thread

    inside, most = [], []

    def work() -> None:
        for _ in range(50):
            with locked(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1} and len(most) == 200
