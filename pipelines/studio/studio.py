"""What the page and the endpoints talk to: one way into the queue, and the stores that are looked things up in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import StudioError
from ..generation.upscalers import Upscalers
from ..history import cleanup
from ..history.store import Results
from ..images.store import ImageStore
from ..lab.assets import Shelf
from ..prompts.styles import Styles
from ..queue.job import Job
from ..queue.jobs import JobQueue
from ..requests import Request
from ..requests.caller import NOBODY, Caller
from ..settings import Settings
from ..sweeps.grid import Matrix
from ..training.dataset.store import Datasets
from ..training.run.store import Runs, TrainRun
from . import forecast
from .assets import Collection
from .memory_need import MemoryNeed
from .prompt_check import PromptCheck
from .resolver import Resolver
from .training import Training
from .worker import Resident, Worker
from .works import TRAIN, Load, Stores, Work, work_of

Speak = Callable[[str], Callable[[str], str]]  # a language's code -> what puts a word of ours into it


@dataclass(frozen=True)
class Status:
    """queue_length: jobs running and waiting. loaded: the checkpoints in memory. device_line: where the last one
    was put, such as "CPU, 2 threads, float32"; "" before that."""

    queue_length: int
    loaded: tuple[Resident, ...]
    device_line: str


class Studio:
    """Holds the queue, the worker and the stores. Cheap to make: torch is imported when the first job runs.

    speak: for words that are drawn into pictures. The stores are public, for whoever only looks things up.
    """

    def __init__(self, settings: Settings, speak: Speak = lambda language: str):
        self.settings = settings
        self.images = ImageStore(settings.data_dir / "inputs")
        self.results = Results(settings.data_dir / "outputs", settings.embed_metadata)
        self.upscalers = Upscalers(settings)
        self.collection = Collection(settings)
        self.styles = Styles(settings.data_dir / "styles.csv", self.collection.refuse_guests)
        self.datasets = Datasets(settings.data_dir / "datasets", settings.dataset_dir)
        self.runs = Runs(settings)
        self.lab_shelf = Shelf(settings, self.datasets, self.collection)
        self.resolver = Resolver(self.collection, self.images, self.styles, self.upscalers,
                                 settings.data_dir / "wildcards")
        self.prompts = PromptCheck(self.collection, self.resolver, settings.data_dir)
        self._worker = Worker(settings, self.images, self.results, self.runs, self.collection,
                              self.upscalers, self.lab_shelf, speak)
        self.memory = MemoryNeed(settings, self.collection, self._worker.room_bytes)
        self._queue = JobQueue(self._worker)
        self.training = Training(settings, self.runs, self.jobs)
        self._stores = Stores(settings, self.images, self.collection, self.resolver, self.datasets, self.runs,
                              self.lab_shelf, self.training, self._queue.last)
        for run in self.runs.cards():  # begun before a restart: its process still has the device
            if run.state.is_alive:
                self._queue.submit(TrainRun(run.name, "watch"), TRAIN)

    def close(self) -> None:
        """Stop the running job, pause the downloads, and end the threads."""
        self._queue.close()
        self.collection.close()

    def warm_up(self) -> None:
        """Load the default checkpoint and look through the model folders before anybody asks, and clear up."""
        self.collection.library.refresh()
        self.submit(Load(self.collection.default_card().name))
        cleanup.clear(self.settings.data_dir, self.results.infotexts)

    def submit(self, asked: Work | Request | Matrix, caller: Caller = NOBODY) -> Job:
        """Check what is asked, make it concrete, and put it into the queue.

        Raises RequestError, ModelError, StudioError or QueueFull at once.
        """
        made = work_of(asked).concrete(self._stores, caller)
        return self._queue.submit(made.request, made.task, caller, made.pixel_steps)

    def forecast(self, requests: Iterable[Request], owner: str | None = None) -> float | None:
        """Seconds that concrete requests will take, or None when there is nothing to go by."""
        return forecast.seconds(requests, self.results.today(owner))

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

    def status(self) -> Status:
        """How the queue and the device stand."""
        return Status(len(self._queue), self._worker.loaded, self._worker.device_line)
