"""A data folder, and the places that settings give."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.library import Library, places
from pipelines.library.checkpoints import find
from pipelines.library.scan import scan
from pipelines.library.store import Store
from pipelines.settings import Settings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder given with --model-dir."""
    (tmp_path / "given").mkdir()
    return tmp_path / "given"


@pytest.fixture
def settings(tmp_path, root) -> Settings:
    return Settings(data_dir=tmp_path / "data", model_dir=(root,))


@pytest.fixture
def look(settings, tmp_path):
    """Scan with nothing remembered: {(kind, name): what was found}. environ: that of the hub's client."""
    def look(environ: dict[str, str] | None = None):
        environ = {"HF_HUB_CACHE": str(tmp_path / "no cache"), **(environ or {})}
        found = scan(places(settings, environ), Store(tmp_path / "fresh" / "library.sqlite"))
        assert len({(one.finding.kind, one.name) for one in found}) == len(found)
        return {(one.finding.kind, one.name): one for one in found}
    return look


@pytest.fixture
def library(settings, tmp_path):
    made = Library(settings.data_dir, lambda: places(settings, {"HF_HUB_CACHE": str(tmp_path / "no cache")}))
    yield made
    made.close()


@pytest.fixture
def models(tmp_path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def search(tmp_path, models, sd_folder):
    """find() in tmp_path/models, with a tiny model in the embedded one's place."""
    def search(**changes):
        return find(Settings(data_dir=tmp_path / "data", model_dir=(models,), offline=True, **changes), sd_folder)
    return search
