"""What a checkpoint predicts, noise or v: as its file says, as trying it showed, or as a person says. No torch.

A wrong one gives noise instead of pictures, and original files of Stable Diffusion 2.x seldom say which it is.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...errors import RequestError, StudioError, quoted
from ...families import FAMILIES
from ...machine.locks import locked
from .card import ModelCard

FILE_NAME = "predictions.json"
KINDS = {"epsilon": "noise", "v_prediction": "v", "sample": "the picture"}
CHOICES = ("", "epsilon", "v_prediction")  # what a person may say; "" is "as the file says"


def can_be_told(card: ModelCard) -> bool:
    """Whether it is our own loop that follows what is said of this model."""
    return FAMILIES[card.family].follows_prediction


def is_open(card: ModelCard) -> bool:
    """Whether nothing but trying tells: the file is silent, and its family exists in both kinds."""
    return (card.kind == "file" and FAMILIES[card.family].has_both_predictions
            and card.predicts_by not in ("file", "trial"))


def sentence(card: ModelCard) -> str:
    """Such as "v, as the file says"; "" for a model that has no such choice."""
    if not can_be_told(card):
        return ""
    if is_open(card) and card.predicts_by != "person":
        return "found out when it is loaded"
    how = {"file": "as the file says", "trial": "found by trying it", "person": "as chosen here"}
    kind = KINDS.get(card.scheduler.get("prediction_type", "epsilon"), "something else")
    return f"{kind}, {how.get(card.predicts_by, 'as is usual')}"


class Predictions:
    """Remembers in one small JSON file what was found and what was chosen, by a checkpoint's fingerprint.

    The fingerprint is of path, size and time, so another file of the same name is asked anew.
    """

    def __init__(self, data_dir: Path):
        self._file = data_dir / FILE_NAME
        self._known = self._read()

    def told(self, card: ModelCard) -> ModelCard:
        """The card with what is known beyond its file; what a person said goes before all else."""
        if not can_be_told(card):
            return card
        known = self._known.get(card.fingerprint, {})
        if "chosen" in known:
            return with_prediction(card, known["chosen"], "person")
        if "found" in known and is_open(card):
            return with_prediction(card, known["found"], "trial")
        return card

    def choose(self, card: ModelCard, kind: str) -> None:
        """Keep what a person says, "" being what the file says. Raises RequestError for anything else."""
        if kind not in CHOICES:
            raise RequestError(f"Predicts: {quoted(kind)} is not possible. Take noise, v or what the file says.",
                               "kind")
        try:
            self._keep(card, "chosen", kind)
        except OSError as error:
            raise StudioError(f"Predicts: it cannot be kept: {error.strerror or 'the disk refused'}.") from None

    def found(self, card: ModelCard, kind: str) -> None:
        """Keep what trying the model showed, so that it is tried once; with a full disk, once in each run."""
        with suppress(OSError):
            self._keep(card, "found", kind)

    def _keep(self, card: ModelCard, what: str, kind: str) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._file.with_name(f".{FILE_NAME}.lock")):
            known = self._read() or self._known  # another process may have learned something
            others = {name: value for name, value in known.get(card.fingerprint, {}).items() if name != what}
            facts = {**others, **({what: kind} if kind else {})}
            rest = {key: value for key, value in known.items() if key != card.fingerprint}
            self._known = {**rest, card.fingerprint: facts} if facts else rest
            half = self._file.with_name(f"{self._file.name}.{os.getpid()}.new")
            half.write_text(json.dumps(self._known), encoding="utf-8")
            half.replace(self._file)

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # absent, or damaged: models are tried again
            return {}
        good = isinstance(known, dict) and all(
            isinstance(facts, dict) and set(facts.values()) <= set(CHOICES) for facts in known.values())
        return known if good else {}


def with_prediction(card: ModelCard, kind: str, by: str) -> ModelCard:
    """The card of a model that predicts `kind`. by: who says so, as in `ModelCard.predicts_by`."""
    return replace(card, scheduler={**card.scheduler, "prediction_type": kind}, predicts_by=by)
