"""What stands in a picture about how it was made: its request, and the hashes of model, LoRAs and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import metadata
from ..adapters import find
from ..library import LibraryEntry, checkpoints
from ..library.hashes import Hashes
from ..prompts import lora_tags
from ..requests import Request, fields_of
from .assets import Collection

SHOWN_HASH = 12  # digits that tell pictures apart: the same settings make another result of another picture


@dataclass(frozen=True)
class Infotexts:
    """data_dir: where hashes of files are kept."""

    collection: Collection
    data_dir: Path

    def of(self, request: Request, extra: dict[str, object] | None = None, loras: Sequence[LibraryEntry] = ()) -> str:
        """The text of a picture of a concrete request.

        extra: what else is known of how it was made. loras: those that were looked up for it.
        """
        card = self.collection.card(request.model)
        names = (*fields_of(type(request), kind="picture"), *fields_of(type(request), kind="mask"))
        pictures = {f"{name.capitalize()} hash": getattr(request, name) for name in names}
        given = {key: value[:SHOWN_HASH] if value else None for key, value in pictures.items()}
        return metadata.infotext(request, extra={
            "Model hash": checkpoints.short_hash(card, Hashes(self.data_dir)),
            "Lora hashes": self._lora_hashes(request, loras),
            "Prediction type": card.scheduler["prediction_type"] if card.predicts_by == "person" else None,
            **given, **(extra or {})})

    def _lora_hashes(self, request: Request, loras: Sequence[LibraryEntry]) -> str | None:
        """Of the LoRAs that the prompts name and that are here: "name: 12 digits, ..."."""
        second = request.hires_prompt if getattr(request, "hires_scale", 1) > 1 else ""
        uses = lora_tags.extract(request.prompt + second)[1]
        entries = (loras or self.collection.loras()) if uses else ()
        found = {use.name: find.named(entries, use.name) for use in uses}
        hashes = Hashes(self.data_dir)
        return ", ".join(f"{name}: {find.short_hash(entry, hashes)}" for name, entry in found.items() if entry) or None
