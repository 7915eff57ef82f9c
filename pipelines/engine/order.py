"""What an engine is told: plain values, which survive pickling. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelError, RequestError
from ..library.entry import LibraryEntry, lookup
from ..library.read.card import ModelCard


@dataclass(frozen=True)
class LoadModel:
    """Ask for a checkpoint to be brought into memory."""

    model: str


@dataclass(frozen=True)
class Assets:
    """What the library knows of the files that a job names.

    card: the checkpoint, None where none is needed. vae: the autoencoder that takes the place of the checkpoint's own.
    loras: those there are, where a prompt has tags. embeddings: those that a prompt names. autoencoders: those that
    stand alone, for the lab.
    """

    card: ModelCard | None = None
    vae: LibraryEntry | None = None
    loras: tuple[LibraryEntry, ...] = ()
    embeddings: tuple[LibraryEntry, ...] = ()
    autoencoders: tuple[LibraryEntry, ...] = ()


@dataclass(frozen=True)
class Order:
    """A job for an engine.

    task: "txt2img" ... , "lab-..." or "load". request: concrete. language: code of who asked, for words in pictures.
    """

    task: str
    request: Any
    assets: Assets = field(default_factory=Assets)
    language: str = "en"


@dataclass(frozen=True)
class LabFiles:
    """The library as the lab asks for it: what came with the order."""

    assets: Assets

    def vaes(self) -> tuple[LibraryEntry, ...]:
        return self.assets.autoencoders

    def vae(self, name: str) -> LibraryEntry:
        """Raises RequestError for an unknown name."""
        try:
            return lookup(self.assets.autoencoders, "vae", name)
        except ModelError as error:
            raise RequestError(str(error), "vae") from None

    def loras(self) -> tuple[LibraryEntry, ...]:
        return self.assets.loras
