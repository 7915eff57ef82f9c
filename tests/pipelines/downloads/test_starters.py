"""The list of models to begin with: every line is whole, can be run here, and can be said in German."""

from __future__ import annotations

import json
import re

import pytest

from pipelines.downloads.sources import PARTS
from pipelines.downloads.starters import FILE, starters
from pipelines.families import FAMILIES
from pipelines.library.read.hub import HUB_ID
from pipelines.settings import load
from pipelines.studio.studio import Studio
from ui import language
from ui.tabs.models.starters import line


@pytest.mark.parametrize("starter", starters(), ids=lambda one: one.source)
def test_a_line_says_what_it_is_what_it_takes_and_under_which_licence(starter):
    assert re.fullmatch(HUB_ID, starter.source) and starter.name and starter.licence
    assert starter.good_for in language.table("de")
    family = FAMILIES[starter.family]
    assert family.core in starter.parameters and set(starter.parameters) <= set(PARTS)
    # At least half precision is fetched, and at most single precision.
    numbers = sum(starter.parameters.values())
    assert 1.95 * numbers < starter.download_gb * 1e9 < 4.1 * numbers
    assert starter.card.parameters == starter.parameters and starter.card.native_size == family.native_size
    shown = line(starter, "Needs about 5.1 of 8 GB").splitlines()
    assert shown[0] == starter.name and starter.licence in shown[2] and len(shown) == 3


def test_the_list_is_short_and_says_when_and_how_it_was_read():
    told = json.loads(FILE.read_text("utf-8"))
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", told["read"]) and told["how"]
    assert len({one.source for one in starters()}) == len(starters()) <= 8
    assert "http" not in FILE.read_text("utf-8")


def test_the_machines_memory_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.machine.device.host_free_bytes", lambda: 8_000_000_000)
    studio = Studio(load(["--data-dir", str(tmp_path), "--device", "cpu"], {}))
    needs = {one.source: need for one, need in studio.memory.starters()}
    studio.close()
    assert "too much" not in needs["Lykon/dreamshaper-8"] and "of 8.0 GB" in needs["Lykon/dreamshaper-8"]
    assert "too much" in needs["Tongyi-MAI/Z-Image-Turbo"]
