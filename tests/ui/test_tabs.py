"""Tabs are found by themselves, each one file that exports TAB."""

from __future__ import annotations

import sys
import types

import pytest

from ui import tab, tabs


def test_the_tabs_of_the_page_in_order():
    labels = [each.label for each in tab.discover()]
    assert [label for label in labels if label in ("Text to image", "Image to image", "Inpaint", "Image info")] == [
        "Text to image", "Image to image", "Inpaint", "Image info"]
    assert labels[0] == "Text to image"


def test_names_and_places_are_used_once():
    found = tab.discover()
    assert len({each.name for each in found}) == len({each.order for each in found}) == len(found)


def test_a_module_that_is_no_tab_ends_the_start(tmp_path, monkeypatch):
    (tmp_path / "unfinished.py").write_text("")
    monkeypatch.setattr(tabs, "__path__", [str(tmp_path)])
    monkeypatch.setitem(sys.modules, "ui.tabs.unfinished", types.ModuleType("ui.tabs.unfinished"))
    with pytest.raises(TypeError, match="unfinished must export TAB"):
        tab.discover()
