"""One run, from a config to a result: what `python -m pipelines.training` does.

The process owns the run folder; everybody else follows its event log (follow.py).
"""

from __future__ import annotations

import importlib.metadata
import platform
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import RequestError, StudioError
from ...library import checkpoints as catalogue
from ...library.hashes import Hashes
from ...library.read.card import ModelCard
from ...machine import device, memory
from ...prompts.comments import prompts_without_comments
from ...prompts.tokens import count
from ...requests import fields_of, make
from ...settings import Settings
from .. import presets
from ..dataset import archive, notices
from ..dataset.picture import Picture
from ..dataset.survey import Survey, split, survey
from ..events import Ended, Event, Notice, Started
from ..numbers import base_model as bases
from ..numbers import distributed
from ..numbers import trainable as trainees
from ..numbers.batches import Examples, plan
from ..numbers.caches import TensorCache
from ..numbers.progress import Hooks
from ..request import TrainLora
from .export import Export, keep_old
from .folder import Commands, RunFolder, owned, write_json
from .loop import Loop
from .probe import probe
from .report import Report
from .sample_prompts import SamplePrompt, parse
from .sampling import Samples
from .state import Checkpoints

VERSIONS = ("torch", "diffusers", "transformers", "safetensors", "numpy", "pillow")
DEFAULT_PROMPTS = 4  # captions that are drawn when samples are wanted and no prompt is given
PREPARING_EVERY_S = 10.0


def run(config: TrainLora, folder: RunFolder, settings: Settings, *, only_probe: bool = False) -> Ended:
    """Run a config in its folder, taking up the newest state when there is one; returns how it ended.

    settings: of who started the run; none are read here. only_probe: end with how "probed" once the forecast is made.
    Raises StudioError only when the folder is another process's; every other error is an end with how "failed".
    """
    group, own_device = distributed.join(settings.device if config.device == "auto" else config.device)
    config = config.model_copy(update={"device": own_device})
    with ExitStack() as stack:
        stack.callback(group.leave)
        if group.leads:
            stack.enter_context(owned(folder))
        group.wait()
        report = Report(folder, config, silent=not group.leads)
        stack.callback(report.close)
        asked = stack.enter_context(_asked(folder))
        current = _Run(config, folder, settings, group, asked, only_probe)
        try:
            for event in current.events():
                report.write(event)
            ended = current.ended
        except KeyboardInterrupt:  # a second signal, which does not wait for the step
            lost = f" The steps after {current.saved_step} are lost." if current.step > current.saved_step else ""
            report.write(Ended(current.step, "stopped", f"Stopped at once.{lost}"))
            raise
        except StudioError as error:
            ended = Ended(current.step, "failed", str(error))
        except Exception as error:  # whatever it is, the log must say that it ended
            traceback.print_exc()
            if memory.is_out_of_memory(error):
                text = "Not enough memory. Choose a smaller resolution or batch size."
            elif isinstance(error, OSError):
                text = (f"The disk refused: {error.strerror or error}. The saved states are intact, and the run can go "
                        "on from there.")
            else:
                text = f"Unexpected: {type(error).__name__}. The output tells more."
            ended = Ended(current.step, "failed", text)
        report.write(ended)
    return ended


class _Run:
    """The parts of a run put together. step: where it is, also after an error."""

    def __init__(self, config: TrainLora, folder: RunFolder, settings: Settings, group: distributed.Team, asked: Any,
                 only_probe: bool):
        self._config, self._folder, self._settings = config, folder, settings
        self._team, self._asked = group, asked
        self._only_probe = only_probe
        self._loop: Loop | None = None
        self.ended = Ended(0, "failed", "It did not begin.")

    @property
    def step(self) -> int:
        return self._loop.progress.step if self._loop else 0

    @property
    def saved_step(self) -> int:
        return max(0, self._loop.saved_step) if self._loop else 0

    def events(self) -> Iterator[Event]:
        """Everything from looking at the data to the result."""
        card = bases.find_card(self._config, self._settings)
        pictures, notes = self._pictures(card)
        config, trained, held = self._resolved(card, pictures)
        for text in (*notices.of_captions(pictures, config), *notes, *notices.of_pictures(pictures)):
            yield Notice(0, text)
        if config.masked and not any(picture.has_mask for picture in trained):
            yield Notice(0, "Masked: no picture has a mask, so all of each is learned.")
        base = bases.load(card, config, self._settings)
        examples = Examples(plan(trained, config, base.size_step), plan(held, config, base.size_step), base, config,
                            TensorCache(self._folder.path / "cache" if config.cache == "disk" else None))
        checkpoints = Checkpoints(self._folder.checkpoints, config.keep_last)
        if not (yield from self._prepare(examples)):
            self.ended = Ended(max(checkpoints.steps(), default=0), "stopped", "Stopped while preparing. The run can "
                                                                               "go on from here.")
            return
        base.park(text_too=config.text_encoder == "off")
        trainee = trainees.make(base, config)
        typed = prompts_without_comments(config.sample_prompts)
        prompts = [parse(line) for line in typed] or _prompts(examples)
        samples = Samples(base, config, self._folder, prompts)
        for text in samples.notices:
            yield Notice(0, text)
        export = Export(base, trainee, config, examples.trained)
        loop = Loop(base, config, examples, trainee, checkpoints,
                    Hooks(self._asked, export.checkpoint, samples.draw), self._team)
        self._loop = loop
        first = loop.resume()
        yield Started(first, config.steps, len(trained), len(held), sum(p.numel() for p in trainee.parameters),
                      device.describe(base.placement.device, str(base.autocast).removeprefix("torch.")))
        if first == 0:
            yield from probe(loop, len(prompts))
        if self._only_probe:
            self.ended = Ended(first, "probed", "Nothing was trained yet. Start training begins, with these settings.")
            return
        how = yield from loop.train()
        if how == "finished":
            yield from self._finish(export, loop, samples)
        else:
            saved = loop.saved_step == loop.progress.step
            text = "everything is saved" if saved else f"only what was there at step {self.saved_step} is saved"
            self.ended = Ended(loop.progress.step, how, f"{how.capitalize()}; {text}. The run can go on from here.")

    def _pictures(self, card: ModelCard) -> tuple[list[Picture], list[str]]:
        """The pictures of both folders, and what of these folders is not used."""
        config = self._config
        tokenizer = catalogue.tokenizer_folder(card, self._settings.data_dir)
        resolution = config.resolution or card.native_size

        def look(data: str, name: str) -> Survey:
            place = Path(data)
            if place.is_file():
                unpacked = self._folder.path / name
                if self._team.leads and not unpacked.is_dir():
                    archive.unpack(place, unpacked)
                self._team.wait()
                place = unpacked
            return survey(place, resolution=resolution, encoding=config.caption_encoding,
                          count_tokens=lambda text: count(text, tokenizer).count)

        found = look(config.data, "data")
        pictures, notes = list(found), list(found.notes)
        if config.prior_data:
            prior = look(config.prior_data, "prior")
            pictures += [replace(one, is_prior=True, weight=config.prior_weight) for one in prior]
            notes += [f"Regularisation pictures: {note}" for note in prior.notes]
        return pictures, notes

    def _resolved(self, card: ModelCard, pictures: Sequence[Picture]) -> tuple[TrainLora, list[Picture],
                                                                                list[Picture]]:
        """The concrete config, and the pictures trained on and held out; written down, or as they were written."""
        file, config = self._folder.manifest_file, self._config
        trained, held = split(pictures, config.validation, config.seed)
        own = sum(not one.is_prior for one in trained)
        facts = [{"file": one.name, "sha256": one.digest, "verdict": one.verdict, "reasons": list(one.reasons),
                  "prior": one.is_prior} for one in pictures]
        fingerprint = catalogue.short_hash(card, Hashes(self._settings.data_dir))
        known = self._folder.manifest()
        if known is None:
            concrete = presets.resolve(config, pictures=own, native_size=card.native_size,
                                       unet_parameters=card.unet_parameters)
            manifest = {
                "config": config.model_dump(), "resolved": concrete.model_dump(), "model": card.name,
                "fingerprint": fingerprint, "pictures": facts,
                "held_out": [one.digest for one in held], "seed": config.seed, "started_at": round(time.time()),
                "versions": {"python": platform.python_version(),
                             **{name: importlib.metadata.version(name) for name in VERSIONS}}}
            if self._team.leads:
                write_json(file, manifest)
            return concrete, trained, held
        begun = {one["sha256"] for one in known["pictures"] if one["verdict"] != "left out"}
        if begun != {one.digest for one in pictures if one.used}:
            raise RequestError("Data: the pictures are not those the run began with, so it cannot go on. Put them "
                               "back, or start a new run.", "data")
        if known["fingerprint"] != fingerprint:
            raise RequestError(f"Model: {card.title} is not the one the run began with, so it cannot go on.", "model")
        newer = {name: value for name in fields_of(TrainLora, may_change=True)
                 if (value := getattr(config, name)) is not None}
        return make(TrainLora, **{**known["resolved"], **newer, "device": config.device}), trained, held

    def _prepare(self, examples: Examples) -> Iterator[Event]:
        """Encode everything; the return value says whether to go on."""
        told, said = time.monotonic(), 0
        for done, of in examples.prepare():
            yield from (Notice(0, text) for text in examples.room.told[said:])
            said = len(examples.room.told)
            if self._team.size == 1 and {"stop", "pause"} & set(self._asked()):
                return False
            if time.monotonic() - told > PREPARING_EVERY_S:
                told = time.monotonic()
                yield Notice(0, f"Encoded {done} of {of} pictures.")
        return True

    def _finish(self, export: Export, loop: Loop, samples: Samples) -> Iterator[Event]:
        """Write the result: of the last step, or of the best one. A LoRA has a preview, drawn now if there is none."""
        config, step, weights = export.config, loop.progress.step, loop.average.weights
        if config.keep_best and loop.progress.best_step in loop.checkpoints.steps():
            best = loop.checkpoints.load(loop.progress.best_step)
            step, weights = loop.progress.best_step, best["average"] or best["weights"]
            yield Notice(loop.progress.step, f"The result is that of step {step}, the best by held-out loss.")
        elif config.keep_best and loop.progress.best_loss is not None:
            yield Notice(step, "No step had a lower held-out loss than the beginning: the result is the last one's.")
        name = config.name
        if self._team.leads:
            preview, adapter = self._folder.samples / f"{step:07d}-0.png", export.trainee.adapter
            with export.trainee.showing(weights):
                if adapter is not None and not preview.is_file():
                    export.trainee.set_training(False)
                    yield from samples.draw(step, most=1)
                kept = keep_old(Path(config.output), config.name)
                if kept is not None:
                    yield Notice(step, f"There was {config.name!r} already: it is called {kept!r} now.")
                name = export.result(Path(config.output), step, preview if preview.is_file() else None,
                                     self._folder.path / "diffusers")
        self.ended = Ended(loop.progress.step, "finished", f"The result is {name}.", name)


def _prompts(examples: Examples) -> list[SamplePrompt]:
    texts = [one.texts[0] for one in [*examples.held, *examples.trained] if one.texts[0]]
    return [SamplePrompt(text, text) for text in list(dict.fromkeys(texts))[:DEFAULT_PROMPTS] or [""]]


@contextmanager
def _asked(folder: RunFolder) -> Iterator[Any]:
    """What the person or the system asks for: the commands file; SIGTERM and Ctrl-C, which mean stop.

    A second signal ends the process at once.
    """
    commands, came = Commands(folder), []
    before = {}

    def on_signal(number: int, frame: object) -> None:
        came.append("stop")
        signal.signal(number, before[number])

    def asked() -> list[str]:
        words = [*came, *commands.read()]
        came.clear()
        return words

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.getsignal(number)
        signal.signal(number, on_signal)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
