"""What the page and the endpoints talk to: submit a request, get a job."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..adapters import find, merge_request
from ..adapters.merge_request import MergeLora
from ..demo.words import Strange, strange
from ..downloads import Download
from ..downloads.starters import Starter, starters
from ..errors import RequestError, StudioError
from ..events import Record
from ..families import FAMILIES
from ..generation.upscalers import Upscalers
from ..history import cleanup
from ..history.store import Results
from ..images.store import ImageStore
from ..lab import page_requests as lab_pages
from ..lab.assets import Shelf
from ..library import LibraryEntry, checkpoints
from ..library.checkpoints import ModelCard
from ..library.embeddings import named, words_of
from ..machine import device
from ..models import estimate
from ..prompts import lora_tags
from ..prompts.marks import Mark, marks
from ..prompts.styles import Style, Styles
from ..prompts.texts import each
from ..prompts.tokens import Tokens, count, plain
from ..queue.jobs import LOAD, Job, JobQueue
from ..queue.workload import pixel_steps
from ..requests import Request, Upscale, changed, make, task_of
from ..settings import Settings
from ..sweeps.grid import Matrix, check
from ..sweeps.series import Series, vary
from ..training.dataset.store import Datasets
from ..training.request import TrainLora
from ..training.run.store import RunCard, Runs, TrainRun, has_begun, turn
from . import forecast, limits
from .assets import Collection
from .resolver import Resolver
from .worker import LoadModel, Resident, Worker

TRAIN = "train"
WILDCARD = re.compile(r"__\S+?__")


@dataclass(frozen=True)
class Status:
    """queue_length: jobs running and waiting. loaded: the checkpoints in memory. device_line: where the last one
    was put, such as "CPU, 2 threads, float32"; "" before that."""

    queue_length: int
    loaded: tuple[Resident, ...]
    device_line: str


class Studio:
    """Holds the queue, the cache and the stores. Cheap to make: torch is imported when the first job runs."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.images = ImageStore(settings.data_dir / "inputs")
        self.results = Results(settings.data_dir / "outputs", settings.embed_metadata)
        self.styles = Styles(settings.data_dir / "styles.csv")
        self.upscalers = Upscalers(settings)
        self.collection = Collection(settings)
        self.datasets = Datasets(settings.data_dir / "datasets", settings.dataset_dir)
        self.runs = Runs(settings)
        self.lab_shelf = Shelf(settings, self.datasets, self.collection)
        self.resolver = Resolver(self.collection, self.images, self.styles, self.upscalers,
                                 settings.data_dir / "wildcards")
        self._worker = Worker(settings, self.images, self.results, self.runs, self.collection,
                              self.upscalers, self.lab_shelf)
        self._queue = JobQueue(self._worker)
        for run in self.runs.cards():  # begun before a restart: its process still has the device
            if run.state.is_alive:
                self._queue.submit(TrainRun(run.name, "watch"), TRAIN)

    def close(self) -> None:
        """Stop the running job, pause the downloads, and end the threads."""
        self._queue.close()
        self.collection.close()

    # Models

    def cards(self) -> tuple[ModelCard, ...]:
        """The checkpoints that can be chosen, the default first."""
        return self.collection.cards()

    def default_card(self) -> ModelCard:
        return self.cards()[0]

    def card(self, name: str | None) -> ModelCard:
        """Look a checkpoint up by name or title. Raises ModelError for an unknown one."""
        return self.collection.card(name)

    def adapters(self) -> tuple[LibraryEntry, ...]:
        """The LoRAs that a prompt's tags can name, as they lie on the disk at this moment."""
        return self.collection.loras()

    def download(self, source: str) -> Download:
        """Fetch a model: by hub name, Civitai number or address. Raises RequestError where others reach the page."""
        return self.collection.downloads.start(source)

    def change_download(self, id: str, what: str) -> None:
        """Pause, resume or stop a download. Raises StudioError where others can reach the page."""
        downloads = self.collection.downloads
        self.collection.refuse_guests()
        download = downloads.get(id)
        if download is None or what not in ("pause", "resume", "stop"):
            raise RequestError("Download: this one is no longer here.", "id")
        if what == "resume":
            downloads.refuse()
        getattr(download, what)()

    def defaults(self, model: str | None = None) -> dict[str, Any]:
        """What a model likes: sampler, schedule, steps, guidance_scale, width, height."""
        return self.resolver.defaults(model)

    def tokens(self, text: str, model: str | None = None) -> Tokens:
        """Count a prompt's tokens as the model's own tokenizer does; no limit is known where the library counts."""
        if FAMILIES[self.card(model).family].stock:
            return Tokens(0, 0, text, "")
        known = {word: count for entry in named(self.collection.library.entries(), [text]) if not entry.fault
                 for word, count in words_of(entry).items()}
        return count(text, checkpoints.tokenizer_folder(self.card(model), self.settings.data_dir), names=known)

    def strange(self, text: str, model: str | None = None) -> Strange:
        """Which words of a prompt the embedded model was not taught; none of any other model, and none that a LoRA or
        an embedding in the prompt answers to."""
        if self.card(model).path != checkpoints.EMBEDDED:
            return Strange()
        loras = [find.named(self.collection.loras(), use.name) for use in lora_tags.extract(text)[1]]
        beside = [*filter(None, loras), *named(self.collection.library.entries(), [text])]
        known = [word for entry in beside for word in (entry.name, *entry.trigger_words)]
        return strange(WILDCARD.sub(" ", plain(text)), known)

    def marks(self, text: str) -> tuple[Mark, ...]:
        """What a prompt gets wrong: brackets without a partner, names that nothing here answers to."""
        loras = self.collection.library.entries(kind="lora")
        return marks(text, is_lora=lambda name: find.named(loras, name) is not None,
                     is_wildcard=self.resolver.wildcards.has,
                     is_word=lambda word: bool(named(self.collection.library.entries(), [word])))

    def save_styles(self, *styles: Style) -> None:
        """Add or replace styles. Raises StudioError for a bad name, and where others can reach the page."""
        self.collection.refuse_guests()
        self.styles.save(*styles)

    def delete_style(self, name: str) -> None:
        """Forget a style. Raises StudioError where others can reach the page."""
        self.collection.refuse_guests()
        self.styles.delete(name)

    def load_model(self, name: str, page: str | None = None, owner: str = "", is_guest: bool = False) -> Job:
        """Bring a checkpoint into memory, in its turn."""
        return self._queue.submit(LoadModel(self.card(name).name), LOAD, page, owner, is_guest=is_guest)

    def warm_up(self) -> None:
        """Load the default checkpoint and look through the model folders before anybody asks, and clear up."""
        self.collection.library.refresh()
        self.load_model(self.default_card().name)
        cleanup.clear(self.settings.data_dir, self.results.infotexts)

    # Jobs

    def resolve(self, request: Request) -> Request:
        """Make every "as the model likes" concrete, and refuse what cannot run."""
        return self.resolver.resolve(request)

    def scale_of(self, request: Upscale) -> float:
        """The scale of an upscaled picture; it keeps its shape, and fits into the width and height asked for."""
        return self.resolver.scale_of(request)

    def submit(self, request: Request, page: str | None = None, owner: str = "", is_guest: bool = False) -> Job:
        """Check a request, make it concrete, and put it into the queue.

        page: the page that will follow the job; without one it runs to its end whatever happens. owner: the browser
        whose picture it is. is_guest: of a page that others can reach; what they may have waiting is limited. Raises
        RequestError, ModelError or QueueFull at once.
        """
        return self._put(self.resolve(request), task_of(request), page, owner, is_guest=is_guest)

    def _size_of(self, id: str) -> tuple[int, int]:
        stored = self.images.get(id)
        return stored.width, stored.height

    def _put(self, request: Any, task: str, page: str | None, owner: str, say: Callable[[str], str] = str,
             is_guest: bool = False) -> Job:
        """Put pictures to be made into the queue, with how much work they are."""
        work = pixel_steps(request, self._size_of) if is_guest else 0
        return self._queue.submit(request, task, page, owner, say, is_guest, work)

    def submit_matrix(self, matrix: Matrix, page: str | None = None, owner: str = "",
                      say: Callable[[str], str] = str, is_guest: bool = False) -> Job:
        """Check every cell of an X/Y/Z grid and put it into the queue. Submitted again after a stop, it goes on.

        say: puts the labels into the language of who asked; here and for the lab.
        """
        def build(base: Request, earlier: Matrix | Series | None) -> Matrix:
            made = replace(matrix, base=self._single(base)).seeded(earlier if isinstance(earlier, Matrix) else None)
            check(made)
            varied = {} if "dynamic" in (axis.field for axis in made.axes) else {"dynamic": base.dynamic}
            return replace(made, requests=tuple(self._single(changed(cell, **varied)) for _, cell in made.cells()))

        return self._submit_many(matrix.base, build, page, owner, say, is_guest)

    def submit_series(self, base: Request, prompts: Sequence[dict[str, Any]] = (), pictures: Sequence[str] = (),
                      page: str | None = None, owner: str = "", is_guest: bool = False) -> Job:
        """Make a picture of every prompt (values of the request's fields) and of every stored picture, as one job.

        Submitted again after a stop, it goes on.
        """
        def build(base: Request, earlier: Matrix | Series | None) -> Series:
            asked = [self.resolve(one) for one in vary(base, prompts, pictures)]
            return Series(base, tuple(single for one in asked for single in each(one)))

        return self._submit_many(base, build, page, owner, is_guest=is_guest)

    def _single(self, request: Request) -> Request:
        """Resolve a request of one prompt. Raises RequestError for one that stands for several."""
        resolved = self.resolve(request)
        if resolved.texts:
            raise RequestError(f"Grid: the prompt stands for {len(resolved.texts)} prompts. A grid is made of one; "
                               "others can be the values of an axis.", "prompt")
        return resolved

    def _submit_many(self, base: Request, build: Callable[[Request, Matrix | Series | None], Matrix | Series],
                     page: str | None, owner: str, say: Callable[[str], str] = str, is_guest: bool = False) -> Job:
        """Put a grid or a series into the queue; one with random seeds takes those of the same one that was stopped."""
        seeds = ("seed", "variation_seed") if base.variation_strength else ("seed",)
        drawn = {name: secrets.randbelow(2**32) for name in seeds if getattr(base, name) == -1}
        last = self.current(page, task_of(base)) if page else None
        if last is not None and last.stopped and isinstance(last.request, Matrix | Series):
            again = build(changed(base, **{name: getattr(last.request.base, name) for name in drawn}), last.request)
            if again == last.request:
                return self._put(again, task_of(base), page, owner, say, is_guest)
        return self._put(build(changed(base, **drawn), None), task_of(base), page, owner, say, is_guest)

    def forecast(self, requests: Iterable[Request], owner: str | None = None) -> float | None:
        """Seconds that concrete requests will take, or None when there is nothing to go by."""
        return forecast.seconds(requests, self.today(owner))

    def lab(self, name: str, values: dict[str, Any], page: str | None = None,
            say: Callable[[str], str] = str, owner: str = "", is_guest: bool = False) -> Job:
        """Ask for what a page of the lab shows. values: of the page's request, and model, a name from the list."""
        values = dict(values)
        card = self.card(values.pop("model", None))
        request = make(lab_pages.PAGES[name], **values)
        looks = request.looks_into_checkpoint or self.lab_shelf.needs_checkpoint(request)
        if looks:
            limits.need_own_loop(card, "The pages of the lab")
        if request.trains:
            self._may_train()
        lab_pages.check_hub(request, self.settings)
        model = card.name if looks else ""
        return self._queue.submit(lab_pages.LabJob(name, request, model), lab_pages.TASK + name, page, owner, say,
                                  is_guest)

    def train(self, dataset: str, *, only_probe: bool = False, owner: str = "", is_guest: bool = False,
              **values: Any) -> Job:
        """Start a training run on a dataset; values: of TrainLora, model being a name from the list.

        only_probe: try a few steps, forecast the rest, and end. Raises RequestError, and StudioError where training
        is not allowed.
        """
        self._may_train()
        card = self.card(values.pop("model", None))
        limits.need_own_loop(card, "Training")
        if card.path is None:
            raise RequestError(f"Model: {card.title} is not on this machine yet. Make a picture with it first.",
                               "model")
        if values.get("prior_data"):
            values["prior_data"] = str(self.datasets.folder(values["prior_data"]))
        if card.predicts_by in ("person", "trial"):  # a run keeps it, whatever is chosen for the model later
            values["prediction_type"] = card.scheduler["prediction_type"]
        config = make(TrainLora, **{"output": "loras", **values, "model": str(card.path),
                                    "data": str(self.datasets.folder(dataset))})
        self._must_not_wait(config.name)
        run = TrainRun(self.runs.prepare(config), "probe" if only_probe else "begin")
        return self._queue.submit(run, TRAIN, owner=owner, is_guest=is_guest)

    def merge(self, model: str | None, *, owner: str = "", is_guest: bool = False, **values: Any) -> Job:
        """Merge a LoRA into a model, as a model of its own; values: of MergeLora. Raises as `train` does."""
        self._may_train()
        request = make(MergeLora, model=self.card(model).name, **values)
        merge_request.check(request, self.settings.data_dir / "models")
        return self._queue.submit(request, "merge", owner=owner, is_guest=is_guest)

    def run(self, name: str) -> RunCard:
        """A run and how it stands, in the queue too. Raises RequestError for an unknown name."""
        return self.runs.card(name).with_turn(turn(self._queue.jobs, name))

    def stop_run(self, name: str) -> bool:
        """End a run: one that waits leaves the queue, one that works finishes its step and saves. Returns whether it
        waited."""
        return self.runs.stop(name, turn(self._queue.jobs, name))

    def resume_run(self, name: str, owner: str = "", is_guest: bool = False) -> Job:
        """Take a stopped, paused or broken run up again, exactly where it was; begin one that has not begun."""
        self._may_train()
        self._must_not_wait(name)
        card = self.runs.card(name)
        if not card.state.can_resume:
            raise RequestError(f"Run: {name} is {card.state.how} and cannot go on.", "name")
        return self._queue.submit(TrainRun(name, "resume"), TRAIN, owner=owner, is_guest=is_guest)

    def _must_not_wait(self, run: str) -> None:
        """Refuse to queue a run twice: a new one of its name would take its folder, and one that was stopped meanwhile
        would begin again by itself."""
        job = turn(self._queue.jobs, run)
        if job is not None and not has_begun(job):
            raise RequestError(f"Name: a run {run!r} waits for its turn. Take another name, or wait for it.", "name")

    @property
    def training_refusal(self) -> str:
        """Why nobody may train on this page, "" when they may."""
        if self.settings.is_public and not self.settings.guests_may_train:
            return ("Training is switched off while others can reach this page. Its owner can allow it with "
                    "--guests-may-train.")
        return ""

    def _may_train(self) -> None:
        if self.training_refusal:
            raise StudioError(self.training_refusal)

    def current(self, page: str, task: str) -> Job | None:
        """The newest job of a page for a task, for a page that was reloaded."""
        return self._queue.last(page, task)

    def jobs(self) -> tuple[Job, ...]:
        """The job that runs, and those that wait, in their order."""
        return self._queue.jobs

    def end(self, *ids: str, owner: str | None = None) -> int:
        """End jobs by id, or all of an owner's; pictures that are finished stay. Returns how many that were."""
        ended = [job for job in self.jobs() if job.id in ids or owner is not None and job.owner == owner]
        for job in ended:
            job.stop()
        return len(ended)

    def restart_worker(self) -> None:
        """Give up on a job that does not go on, and continue with the next. Raises StudioError when none hangs.

        A thread cannot be ended from outside: what it holds in memory stays until it comes back, or the app ends.
        """
        if not any(job.stalled_s for job in self.jobs()):
            raise StudioError("Nothing hangs: the worker is not restarted while its job goes on.")
        self._worker.forget()
        self._queue.restart()

    def leaving(self, page: str) -> None:
        """Say that a page is being closed or reloaded."""
        self._queue.leaving(page)

    def today(self, owner: str | None = None) -> list[Record]:
        """The pictures of today, newest first."""
        return self.results.today(owner)

    def need(self, model: str | None, width: int, height: int, batch_size: int = 1, guided: bool = True) -> str:
        """How much memory pictures of that size will take of what is free, in a few words."""
        return self._need(self.card(model), width, height, batch_size, guided)

    def starters(self) -> tuple[tuple[Starter, str], ...]:
        """Models to begin with, and whether this machine has the memory for each, in a few words."""
        return tuple((one, self._need(one.card, one.card.native_size, one.card.native_size)) for one in starters())

    def _need(self, card: ModelCard, width: int, height: int, batch_size: int = 1, guided: bool = True) -> str:
        where = device.choose(self.settings.device, unet_parameters=0, half_vae=True).device
        free = self._worker.room_bytes(where)
        usual = estimate.placement_for(card, self.settings, free)
        needed = estimate.need(card, usual, width, height, batch_size, guided)
        return estimate.sentence(needed, estimate.for_run(usual, needed, self.settings, free).offload, free)

    def status(self) -> Status:
        return Status(len(self._queue), self._worker.loaded, self._worker.device_line)
