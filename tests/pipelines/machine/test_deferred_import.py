"""A package that waits: imported at once, run when it is needed."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipelines.machine.deferred_import import postpone

ROOT = Path(__file__).parents[3]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a package "waits_here" that counts how often its code runs; returns a function (code) -> None."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "runs", [], raising=False)

    def write(code: str = "") -> None:
        folder = tmp_path / "waits_here"
        folder.mkdir()
        (folder / "__init__.py").write_text(
            f"import sys, time\nsys.runs.append(1)\ntime.sleep(0.1)\n{code}\nanswer = 42")
        (folder / "inner.py").write_text("import waits_here\ndeep = waits_here.answer + 1")
        importlib.invalidate_caches()
        postpone("waits_here")

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "waits_here"]:
        del sys.modules[name]


def test_it_counts_as_here_and_its_code_runs_once_when_several_ask(package):
    package()
    import waits_here

    assert find_spec("waits_here") is not None and not hasattr(waits_here, "__wrapped__") and sys.runs == []
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(waits_here.answer)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, sys.runs) == ([42] * 4, [1])
    assert importlib.import_module("waits_here") is waits_here and waits_here.__name__ == "waits_here"
    with pytest.raises(AttributeError, match="'waits_here' has no attribute 'question'"):
        _ = waits_here.question


def test_a_module_inside_it_brings_the_whole(package):
    package()
    assert importlib.import_module("waits_here.inner").deep == 43
    assert sys.runs == [1]


def test_one_that_cannot_be_run_says_why_each_time(package):
    package("raise OSError('a library is missing')")
    import waits_here

    for _ in range(2):
        with pytest.raises(OSError, match="a library is missing"):
            _ = waits_here.answer
    assert sys.runs == [1, 1]


def test_what_is_not_installed_or_here_already_stays_as_it_is():
    postpone("no_such_package_here")
    assert "no_such_package_here" not in sys.modules
    before = sys.modules["json"]
    postpone("json")
    assert sys.modules["json"] is before


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="the package bitsandbytes is not installed")
def test_bitsandbytes_is_neither_run_at_the_start_nor_heard_when_it_is():
    done = _run("import os, sys\nfrom pipelines.machine.device import prepare_environment\n"
                "prepare_environment(os.environ)\n"
                "import diffusers, peft; diffusers.StableDiffusionPipeline\n"
                "assert diffusers.utils.is_bitsandbytes_available()\n"
                "assert 'bitsandbytes.nn' not in sys.modules, 'run'\n"
                "import bitsandbytes; bitsandbytes.nn.Linear4bit; bitsandbytes.optim.AdamW8bit\n"
                "assert 'kernels' not in sys.modules\n")
    assert (done.returncode, "kernels" in done.stdout + done.stderr) == (0, False), done.stderr


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
