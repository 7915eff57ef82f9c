"""What the page and the endpoints talk to: one way into the queue, and the stores that are looked things up in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..engine import engine
from ..engine.report import Resident, Speak, in_english
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
from .infotexts import Infotexts
from .memory_need import MemoryNeed
from .prompt_check import PromptCheck
from .recorder import Recorder
from .resolver import Resolver
from .runner import Engine, JobRunner, Sweeps
from .training import Training
from .works import TRAIN, Load, Stores, Work, work_of

Start = Callable[[Settings, Speak], Engine]


@dataclass(frozen=True)
class Status:
    """queue_length: jobs running and waiting. loaded: the checkpoints in memory. device_line: where the last ones
    were put, such as "CPU, 2 threads, float32"; "" before that."""

    queue_length: int
    loaded: tuple[Resident, ...]
    device_line: str


class Studio:
    """Holds the queue, the engines and the stores. Cheap to make: an engine imports torch when its first job runs.

    speak: for words that are drawn into pictures. start: makes the engine of a device, of settings that name it; by
    default one in this process. The stores are public, for whoever only looks things up.
    """

    def __init__(self, settings: Settings, speak: Speak = in_english, start: Start = engine.Engine):
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
        recorder = Recorder(self.results, Infotexts(self.collection, settings.data_dir), self.collection)
        sweeps = Sweeps(recorder)
        self._engines = tuple(start(each, speak) for each in settings.for_devices())
        runners = [JobRunner(each, recorder, self.runs, self.collection, sweeps, speak) for each in self._engines]
        self.memory = MemoryNeed(self.collection, self._engines[0])
        self._queue = JobQueue(*runners)
        self.training = Training(settings, self.runs, self.jobs)
        self._stores = Stores(settings, self.images, self.collection, self.resolver, self.datasets, self.runs,
                              self.lab_shelf, self.training, self._queue.last)
        for run in self.runs.cards():  # begun before a restart: its process still has the device
            if run.state.is_alive:
                self._queue.submit(TrainRun(run.name, "watch"), TRAIN)

    def close(self) -> None:
        """Stop the running jobs, pause the downloads, and end the threads and the engines."""
        self._queue.close(end=self._end_engines)
        self.collection.close()

    def _end_engines(self) -> None:
        for each in self._engines:
            each.close()

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
        return self._queue.submit(made.request, made.task, caller, made.pixel_steps, made.parts)

    def forecast(self, requests: Iterable[Request], owner: str | None = None) -> float | None:
        """Seconds that concrete requests will take, or None when there is nothing to go by."""
        return forecast.seconds(requests, self.results.today(owner))

    def current(self, page: str, task: str) -> Job | None:
        """The newest job of a page for a task, for a page that was reloaded."""
        return self._queue.last(page, task)

    def job(self, id: str) -> Job | None:
        """A job by its id: running, waiting, or one of the last that ended."""
        return self._queue.job(id)

    def jobs(self) -> tuple[Job, ...]:
        """The jobs that run, and those that wait, in their order."""
        return self._queue.jobs

    def end(self, *ids: str, owner: str | None = None) -> int:
        """End jobs by id, or all of an owner's; pictures that are finished stay. Returns how many that were."""
        ended = [job for job in self.jobs() if job.id in ids or owner is not None and job.owner == owner]
        for job in ended:
            job.stop()
        return len(ended)

    def restart_worker(self) -> None:
        """Give up on the jobs that do not go on, and continue with the next. Raises StudioError when none hangs."""
        if not any(job.stalled_s for job in self.jobs()):
            raise StudioError("Nothing hangs: the worker is not restarted while its job goes on.")
        for runner in self._queue.restart(lambda job: job.stalled_s):
            runner.engine.forget()

    def leaving(self, page: str) -> None:
        """Say that a page is being closed or reloaded."""
        self._queue.leaving(page)

    def status(self) -> Status:
        """How the queue and the device stand."""
        standings = [each.standing for each in self._engines]
        lines = dict.fromkeys(standing.device_line for standing in standings if standing.device_line)
        return Status(len(self._queue), tuple(each for standing in standings for each in standing.loaded),
                      " + ".join(lines))
