"""Start a run, try a few steps, or take the settings of an earlier one into the form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.studio.studio import Studio
from pipelines.studio.works import Train

from ...forms.controls import find_card
from ...language import named
from ...results.progress import waiting_line
from ...tab import Page
from ...visitors import caller
from ...wiring import QUEUED, guarded, problem
from . import knobs
from .knobs import Knobs
from .pictures import Pictures
from .watch import Watch, names_of_runs

SAMPLES_OF_A_RUN = 5  # times in a run that samples are drawn, unless somebody says otherwise


@dataclass(frozen=True)
class RunStart:
    """What happens between the form and a new run."""

    studio: Studio
    page: Page
    pictures: Pictures
    knobs: Knobs
    watch: Watch

    def wire(self) -> None:
        """Bind Start training, Forecast and Copy its settings to their events."""
        pictures, form, watch = self.pictures, self.knobs, self.watch
        inputs = [pictures.dataset, self.page.model, pictures.trigger, pictures.used, *form.fields.values()]
        for button, only_probe in ((form.start, False), (form.probe, True)):
            button.click(partial(self.begin, only_probe), inputs, [watch.run, form.message], trigger_mode="once",
                         **QUEUED)
        watch.clone.click(guarded(self.copy_settings), watch.run,
                          [*form.fields.values(), pictures.trigger, pictures.dataset, self.page.model, form.message],
                          **QUEUED)

    def begin(self, only_probe: bool, dataset: str, model: str, trigger: str, used: Sequence[str],
              *values: Any) -> tuple[gr.Dropdown | dict, str]:
        """Submit a run as the form says, and choose it. values: of the fields, in their order."""
        try:
            given = knobs.given(list(self.knobs.fields), values)
            if not given["sample_every"]:
                given["sample_every"] = self._sample_every(model, used, given)
            job = self.studio.submit(Train(dataset, {"model": model, "trigger": trigger, **given}, only_probe),
                                     caller())
        except Exception as error:
            return gr.skip(), problem(error)
        name = str(given["name"])
        place = f" {waiting_line(job.position)}." if job.position else ""
        told = "Trying a few steps" if only_probe else f"The run {name} begins"
        return gr.Dropdown(names_of_runs(self.studio), value=name), f"{told}.{place}"

    def copy_settings(self, name: str) -> dict:
        """Fill the form as a run was asked for."""
        pictures, studio = self.pictures, self.studio
        config = studio.runs.card(name).config
        update: dict = {**knobs.filled(studio, self.knobs.fields, config), pictures.trigger: config.trigger}
        dataset = studio.datasets.name_of(Path(config.data))
        if dataset:
            update[pictures.dataset] = gr.Dropdown(named(studio.datasets.names()), value=dataset)
        model = next((card.name for card in studio.collection.cards() if str(card.path) == config.model), None)
        if model:
            update[self.page.model] = model
        gone = [word for word, found in (("pictures", dataset), ("model", model)) if not found]
        lost = f"Its {' and '.join(gone)} are not here any more; yours stay chosen." if gone else ""
        return {**update, self.knobs.message: f"The settings of {name} are in the form. {lost}".strip()}

    def _sample_every(self, model: str, used: Sequence[str], given: dict[str, object]) -> int:
        chosen = {name: given[name] for name in knobs.FORECAST_OF if name in given}
        config = knobs.concrete(find_card(self.studio, model), used, chosen)
        assert config.steps  # resolve leaves none open
        return max(1, config.steps // SAMPLES_OF_A_RUN)
