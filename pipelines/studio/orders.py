"""From a job to what an engine is told: what it names is looked up here, so that the engine needs no library."""

from __future__ import annotations

from ..adapters.merge_request import MergeLora
from ..engine.order import Assets, LoadModel, Order
from ..lab.page_requests import LabJob
from ..library.embeddings import named
from ..prompts import lora_tags
from ..prompts.texts import each, prompt_fields
from ..queue.job import Job
from ..requests import Request
from .assets import Collection


def order_of(job: Job, collection: Collection) -> Order:
    """Look up what a job names. Raises ModelError and RequestError for what is no longer here."""
    kinds = {LoadModel: _loaded, MergeLora: _merged, LabJob: _shown}
    assets = kinds.get(type(job.request), _drawn)(job.request, collection)
    return Order(job.task, job.request, assets, job.caller.language)


def _loaded(asked: LoadModel, collection: Collection) -> Assets:
    return Assets(collection.card(asked.model))


def _merged(asked: MergeLora, collection: Collection) -> Assets:
    return Assets(collection.card(asked.model), loras=collection.loras([asked.lora]))


def _shown(asked: LabJob, collection: Collection) -> Assets:
    card = collection.card(asked.model) if asked.model else None
    return Assets(card, loras=collection.loras(), autoencoders=collection.vaes())


def _drawn(request: Request, collection: Collection) -> Assets:
    singles = each(request)
    texts = [getattr(one, name) for one in singles for name in prompt_fields(type(one))]
    uses = [use for text in texts for use in lora_tags.extract(text)[1]]
    return Assets(card=collection.card(request.model),
                  vae=collection.vae(request.vae) if request.vae else None,
                  loras=collection.loras([use.name for use in uses]) if uses else (),
                  embeddings=tuple(named(collection.embeddings(), texts)))
