"""What can be chosen: the checkpoints, LoRAs, autoencoders and embeddings of this machine, kept fresh. No torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..downloads import Download, Downloads
from ..downloads.network import HOSTS
from ..errors import ModelError, RequestError, StudioError
from ..library import Library, LibraryEntry, checkpoints, places
from ..library.checkpoints import ModelCard
from ..library.convert import convert
from ..library.entry import lookup, named
from ..library.folders import Place
from ..library.read.prediction import Predictions, can_be_told
from ..metadata import Parsed
from ..settings import Settings
from .naming import Shelf, settle

log = logging.getLogger(__name__)

LISTED = ".safetensors"  # an ending that other programs write into names


class Collection:
    """Holds the library and the downloads. The checkpoints are known at once, the rest after the first `refresh`."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self.predictions = Predictions(settings.data_dir)
        self._found, self.faults = checkpoints.find(settings)  # as their files say
        self._tell()
        embedded = Place(checkpoints.EMBEDDED, checkpoints.EMBEDDED.parent, checkpoints.EMBEDDED_NAME)
        self.library = Library(settings.data_dir, lambda: (embedded, *places(settings)), changed=self._find_again)
        tokens = {"huggingface.co": settings.hf_token, "civitai.com": settings.civitai_token}
        self.downloads = Downloads(settings.data_dir, public=settings.is_public, offline=settings.offline,
                                   hosts=settings.download_hosts or HOSTS, arrived=self.library.refresh,
                                   tokens={host: token for host, token in tokens.items() if token})

    def close(self) -> None:
        """Pause the downloads and end the library's thread."""
        self.downloads.close()
        self.library.close()

    # Checkpoints

    def cards(self) -> tuple[ModelCard, ...]:
        """The checkpoints that can be chosen, the default first."""
        return self._cards

    def default_card(self) -> ModelCard:
        """The checkpoint that is taken where none is named."""
        return self._cards[0]

    def card(self, name: str | None) -> ModelCard:
        """Look a checkpoint up by name or title, None being the default. Raises ModelError for an unknown one."""
        return checkpoints.lookup(self._cards, name) if name else self._cards[0]

    def card_of(self, id: str) -> ModelCard | None:
        """The card of what a page speaks of, with what is known beyond its file; None for what is no checkpoint."""
        entry = self.library.by_id(id)
        return self.predictions.told(entry.card) if entry and entry.card else None

    def note_trial(self, card: ModelCard, kind: str) -> None:
        """Keep what trying a model showed it to predict."""
        self.predictions.found(card, kind)
        self._tell()

    def _find_again(self) -> None:
        asked = self._found[0] if self._settings.model else None
        try:
            self._found, self.faults = checkpoints.find(self._settings, entries=self.library.entries(), asked=asked)
        except ModelError as fault:  # all are gone: what is in memory still works
            log.warning("no model is left: %s", fault)
        self._tell()

    def _tell(self) -> None:
        self._cards = tuple(map(self.predictions.told, self._found))

    def settle(self, parsed: Parsed) -> Parsed:
        """Put the names that models and LoRAs have here into what a picture's text says."""
        names = tuple(card.name for card in self.cards())
        return settle(parsed, Shelf(names, lambda: self._known("checkpoint"), self.loras, self.embeddings,
                                    self.library.want_hashes, self.library.hashes))

    # The others

    def loras(self, wanted: Sequence[str] = ()) -> tuple[LibraryEntry, ...]:
        """The LoRAs that tags can name. When one of `wanted` is not among them, the folders are looked through now."""
        return self._known("lora", wanted)

    def embeddings(self) -> tuple[LibraryEntry, ...]:
        """The embeddings that a prompt can name."""
        return self._known("embedding")

    def vaes(self) -> tuple[LibraryEntry, ...]:
        """The autoencoders that can take the place of a model's own, as they were last found."""
        return tuple(entry for entry in self.library.entries(kind="vae") if not entry.fault)

    def vae(self, name: str) -> LibraryEntry:
        """Look an autoencoder up. Raises RequestError for one that is not here or cannot be used."""
        name = name.removesuffix(LISTED)
        try:
            return lookup(self._known("vae", [name]), "vae", name)
        except ModelError as error:
            raise RequestError(str(error), "vae") from None

    def _known(self, kind: str, wanted: Sequence[str] = ()) -> tuple[LibraryEntry, ...]:
        self.library.freshen()
        if not all(named(self.library.entries(kind=kind), name) for name in wanted):
            self.library.refresh()
            self.library.wait_for_scan()
        return self.library.entries(kind=kind)

    # What only the owner may do

    def choose_prediction(self, id: str, kind: str) -> None:
        """Say what a checkpoint predicts: "epsilon", "v_prediction", or "" for what its file says.

        Pictures follow at once, also those of a model in memory. Raises StudioError where others can reach the page.
        """
        self.refuse_guests()
        card = self.card_of(id)
        if card is None or not can_be_told(card):
            raise RequestError("Predicts: this file is no longer here, or is no model that can be told.", "id")
        self.predictions.choose(card, kind)
        self._tell()

    def convert(self, id: str) -> str:
        """Write a pickle anew as safetensors, in a process of its own; the new file's name.

        Raises StudioError where others can reach the page, RequestError for what is no pickle, ModelError when it
        cannot be converted.
        """
        self.refuse_guests()
        entry = self.library.by_id(id)
        if entry is None:
            raise RequestError("Convert: this file is no longer here.", "id")
        made = convert(entry.path)
        self.library.refresh()
        return made.name

    def download(self, source: str) -> Download:
        """Fetch a model: by hub name, Civitai number or address. Raises RequestError where others reach the page."""
        return self.downloads.start(source)

    def change_download(self, id: str, what: str) -> None:
        """Pause, resume or stop a download. Raises StudioError where others can reach the page."""
        self.refuse_guests()
        download = self.downloads.get(id)
        if download is None or what not in ("pause", "resume", "stop"):
            raise RequestError("Download: this one is no longer here.", "id")
        if what == "resume":
            self.downloads.refuse()
        getattr(download, what)()

    def refuse_guests(self) -> None:
        """Raise StudioError when others than the owner can reach this page."""
        if self._settings.is_public:
            raise StudioError("Only the owner can do this, and others can reach this page.")
