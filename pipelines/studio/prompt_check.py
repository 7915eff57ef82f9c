"""What is said of a prompt while somebody types: its tokens, its mistakes, and words that a model was not taught."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..adapters import find
from ..demo.words import Strange, strange
from ..families import FAMILIES
from ..library import checkpoints
from ..library.embeddings import named, words_of
from ..prompts import lora_tags
from ..prompts.marks import Mark, marks
from ..prompts.tokens import Tokens, count, plain
from .assets import Collection
from .resolver import Resolver

WILDCARD = re.compile(r"__\S+?__")


@dataclass(frozen=True)
class PromptCheck:
    """Looks at prompts with what lies in the library at that moment. No model is loaded."""

    collection: Collection
    resolver: Resolver
    data_dir: Path

    def tokens(self, text: str, model: str | None = None) -> Tokens:
        """Count a prompt's tokens as the model's own tokenizer does; no limit is known where the library counts."""
        card = self.collection.card(model)
        if not FAMILIES[card.family].counts_tokens:
            return Tokens(0, 0, text, "")
        known = {word: vectors for entry in named(self.collection.library.entries(), [text]) if not entry.fault
                 for word, vectors in words_of(entry).items()}
        return count(text, checkpoints.tokenizer_folder(card, self.data_dir), names=known)

    def strange(self, text: str, model: str | None = None) -> Strange:
        """Which words of a prompt the embedded model was not taught.

        None of any other model, and none that a LoRA or an embedding in the prompt answers to.
        """
        if self.collection.card(model).path != checkpoints.EMBEDDED:
            return Strange()
        loras = [find.named(self.collection.loras(), use.name) for use in lora_tags.extract(text)[1]]
        beside = [*filter(None, loras), *named(self.collection.library.entries(), [text])]
        known = [word for entry in beside for word in (entry.name, *entry.trigger_words)]
        return strange(WILDCARD.sub(" ", plain(text)), known)

    def marks(self, text: str) -> tuple[Mark, ...]:
        """Find what a prompt gets wrong: brackets without a partner, names that nothing here answers to."""
        loras = self.collection.library.entries(kind="lora")
        return marks(text, is_lora=lambda name: find.named(loras, name) is not None,
                     is_wildcard=self.resolver.wildcards.has,
                     is_word=lambda word: bool(named(self.collection.library.entries(), [word])))
