"""The lab keeps its place among the layers; every import of every file is looked at."""

from __future__ import annotations

from pathlib import Path

from tests.test_architecture import HEAVY, ROOT, Import, imports_of, name_of, sources

ABOVE = ("models.cache", "training.run", "training.numbers", "queue.jobs", "studio", "history")


def imports() -> list[Import]:
    return [one for path in sorted((ROOT / "pipelines" / "lab").rglob("*.py")) for one in imports_of(path)]


def test_the_lab_knows_neither_cache_nor_queue_nor_studio_nor_runs():
    above = [f"pipelines.{name}" for name in ABOVE]
    assert set(above) <= {name_of(path) for path in sources()}, "one of them has another name"
    assert not [str(one) for one in imports() if one.of(*above)]


def test_requests_and_events_of_the_lab_import_no_torch():
    values = [one for one in imports()
              if one.importer in ("pipelines.lab", "pipelines.lab.requests", "pipelines.lab.events")]
    assert values
    assert not [str(one) for one in values if one.of(*HEAVY)]


def test_the_command_line_imports_torch_only_when_a_command_runs():
    early = [one for one in imports() if one.importer == "pipelines.lab.__main__" and not one.deferred]
    work = {f"pipelines.lab.{path.stem}" for path in (ROOT / "pipelines" / "lab").glob("*.py")}
    work -= {"pipelines.lab.requests", "pipelines.lab.events"}
    assert not [str(one) for one in early if one.of(*HEAVY, *work)]


def test_every_file_of_the_lab_is_readable_in_one_sitting():
    long = [path.name for path in Path(ROOT / "pipelines" / "lab").rglob("*.py")
            if len(path.read_text("utf-8").splitlines()) > 250]
    assert not long
