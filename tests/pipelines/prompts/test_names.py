"""Names that no file can have."""

from __future__ import annotations

import pytest

from pipelines.errors import RequestError
from pipelines.prompts.wildcards import Wildcards
from pipelines.settings import load
from pipelines.training.dataset.store import Datasets
from pipelines.training.run.store import Runs


@pytest.mark.parametrize("name", ["y" * 300, "a/" + "ü" * 130, "y" * 5000])
def test_a_wildcard_whose_name_is_too_long_is_named(tmp_path, name):
    (tmp_path / "a.txt").write_text("one")
    wildcards = Wildcards(tmp_path)
    with pytest.raises(RequestError, match="Prompt: the wildcard __.* has at most 240 bytes"):
        wildcards.expand(f"__{name}__", 1)
    assert not wildcards.has(name)


@pytest.mark.parametrize("name", [None, ""])
def test_a_missing_name_is_said(tmp_path, name):
    with pytest.raises(RequestError, match="none was chosen"):
        Runs(load(["--data-dir", str(tmp_path)], {})).card(name)
    with pytest.raises(RequestError, match="none was chosen"):
        Datasets(tmp_path).folder(name)
