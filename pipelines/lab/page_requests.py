"""What the pages of the lab ask of a loaded checkpoint: frozen values, every parameter declared once. No torch.

To add a page: a request here, a file in pages/ and one in ui/tabs/lab/. Names of runs, models, data sets and files
are looked up (assets.py), never joined to a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from ..errors import RequestError
from ..generation.samplers import SAMPLERS
from ..requests import MAX_PROMPT, param
from ..settings import Settings
from .requests import HUB_ID, Drawing, Guide, LabRequest, ScheduleName, Training, Tuning

NEW = "a new run"
CHECKPOINT = "the model above"
NO_FILE = "none"
NO_OTHER = "nothing"
OWN_CLASSES = "the model's own"
BUNDLED_RUN = "digits (comes along)"
BUNDLED_MODEL = "digits-ddpm (comes along)"
Projections = Literal["all", "query and value", "key and value", "output"]
Lesson = Literal["inverted", "mirrored", "bold"]
MemoryPrecision = Literal["float32", "mixed", "bfloat16"]
OptimizerName = Literal["sgd", "adamw", "adamw8bit", "adafactor"]
SamplerName = Literal[tuple(SAMPLERS)]
Animation = Literal["webp", "gif"]
Beside = Literal[("nothing", *SAMPLERS)]
NEVER_PLAIN = re.compile(r"[()\[\]{}<>|\\]|\b(AND|BREAK)\b")
NUMBERS = r"\s*\d{1,3}(\s*,\s*\d{1,3}){0,5}\s*"  # up to six
TASK = "lab-"  # a page's jobs are told from those of other tabs by this and the page's name


class Film(LabRequest):
    """Watch a picture come out of noise."""

    prompt: str = param("", "Prompt", max_length=MAX_PROMPT, help="What the picture should show.")
    sampler: SamplerName = param("Euler a", "Sampler", help="The solver that walks from noise to picture.")
    steps: int = param(12, "Steps", ge=1, le=60, step=1, help="How many times the model is asked.")
    beside: Beside = param("nothing", "Compare with", help="Another run from the same noise.")
    another: Beside = param("nothing", "And with", help="One more.")
    beside_steps: str = param("12", "Steps of the others", max_length=40, pattern=rf"^{NUMBERS}$",
                              help="How many steps the others have: up to six numbers from 1 to 60, such as 4, 12, 30.")
    guidance_scale: float = param(5.0, "Guidance scale", ge=1, le=30, step=0.5,
                                  help="How far each step is pushed along the guidance direction; 1 is not at all.")
    columns: int = param(6, "Columns", ge=2, le=12, step=1, help="About how many steps are shown.")
    animation: Animation = param("webp", "Animation", help="File type of the animation: WebP keeps every colour, GIF "
                                                           "can be shown anywhere.")


class Noise(LabRequest):
    """Drown a picture in noise, and compare how schedules spread that over the steps."""

    image: str = param("", "Picture", help="The picture to add noise to.")
    schedule: ScheduleName = param("scaled linear", "Schedule", help="Which of the curves the pictures follow.")
    timesteps: int = param(1000, "Timesteps", ge=10, le=10_000, step=10, help="Noise levels from picture to noise.")
    count: int = param(8, "Pictures", ge=2, le=16, step=1, help="At how many timesteps, evenly spread.")
    steps: int = param(12, "Sampler steps", ge=2, le=60, step=1, help="How many steps the curves of step placement "
                                                                      "have.")


class Autoencoder(LabRequest):
    """Look at what the autoencoder keeps of a picture."""

    image: str = param("", "Picture", help="The picture to encode and decode.")
    side: int = param(256, "Longer side (px)", ge=32, le=1024, multiple_of=8, step=8,
                      help="Larger pictures are brought to this size first.")
    other: str = param(NO_OTHER, "Compare with", max_length=200, help="A second autoencoder from the model folders: a "
                                                                      "VAE file or a tiny autoencoder.")
    second: str = param("", "Second picture", help="The other end of the way between two pictures.")
    third: str = param("", "Third picture", help="What is taken away: first + second - third.")
    between: int = param(5, "Pictures between", ge=0, le=12, step=1, help="How many pictures the way from the first to "
                                                                          "the second has. 0 is off.")


class Words(LabRequest):
    """Look at what a prompt is to the model, and where in the picture each word acts."""

    prompt: str = param("", "Prompt", max_length=MAX_PROMPT,
                        help="Plain words, without weights, wildcards or other prompt syntax.")
    others: str = param("", "Compare with", max_length=MAX_PROMPT, help="Other prompts, one a line.")
    steps: int = param(10, "Steps", ge=1, le=60, step=1, help="Denoising steps of the picture.")
    guidance_scale: float = param(5.0, "Guidance scale", ge=1, le=30, step=0.5,
                                  help="How closely the picture follows the prompt.")

    @field_validator("prompt")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if NEVER_PLAIN.search(value):  # the tokens shown would not be those that the picture is made from
            raise PydanticCustomError("plain", "Only plain words can be looked at here: no brackets, AND or BREAK")
        return value


class LabTrain(Training):
    """Train from scratch, on the page."""

    trains: ClassVar[bool] = True

    data: str = param("digits", "Data", max_length=200, help="digits, emoji, one class of these, or pictures that were "
                                                             "uploaded on the tab Train.")
    run_name: str = param(NEW, "Run", max_length=200, help="A new run, or one to go on with exactly where it stopped: "
                                                           "then only epochs, minutes and samples may differ.")
    hub_data: str = param("", "Hub data set", max_length=200, pattern=rf"^({HUB_ID})?$",
                          help="owner/name of a data set on the Hugging Face hub, to be fetched instead. Empty: "
                               "nothing is fetched.")
    token: str = param("", "Token", max_length=200, repr=False, help="For a hub data set that is not public.")

    @property
    def looks_into_checkpoint(self) -> bool:
        return self.recipe == "latents"


class LabSample(Drawing):
    """Draw from a run, on the page."""

    run_name: str = param(BUNDLED_RUN, "Model", max_length=200, help="A run of the page Train.")
    count: int = param(8, "Count", ge=1, le=64, step=1, help="How many pictures.")
    contest: bool = param(False, "Contest", help="Draws with DDPM in all steps and with DDIM in 20, and compares the "
                                                 "time and how many pictures a classifier recognises.")
    columns: int = param(8, "Columns", ge=2, le=16, step=1, help="About how many steps the film strip shows.")


class LabFineTune(Tuning):
    """Fine-tune an unconditional model, on the page."""

    looks_into_checkpoint: ClassVar[bool] = False
    trains: ClassVar[bool] = True

    start: str = param(BUNDLED_MODEL, "Model", max_length=200,
                       help="A DDPMPipeline: the small one that comes along, an earlier result, or one from a model "
                            "folder.")
    data: str = param("digits:3", "Data", max_length=200, help="digits, emoji, or pictures that were uploaded on the "
                                                              "tab Train.")
    hub_model: str = param("", "Hub model", max_length=200, pattern=rf"^({HUB_ID})?$",
                           help="owner/name of a DDPMPipeline on the Hugging Face hub, to be fetched instead. Empty: "
                                "nothing is fetched.")


class LabGuide(Guide):
    """Steer a model, on the page."""

    subject: str = param(CHECKPOINT, "Model", max_length=200, help="What is steered: the model chosen above, a run of "
                                                                   "the page Train, or a DDPMPipeline.")
    image: str = param("", "Picture", help="The reference of the goal reference.")
    label: str = param("", "Class", max_length=200, help="What the goal classifier pulls towards: a class, by number "
                                                         "or name.")
    judge: str = param(OWN_CLASSES, "Classifier", max_length=200, help="Whose classes the goal classifier knows: those "
                       "of the run that is steered, or of another one, for a model without classes. It is trained on "
                       "that run's pictures first.")
    sampler: SamplerName = param("DDIM", "Sampler", help="The solver that the model above is drawn with; the others "
                                                         "are drawn with DDIM.")
    steps: int = param(12, "Steps", ge=1, le=100, step=1, help="Denoising steps.")
    guidance_scale: float = param(3.0, "Guidance scale", ge=1, le=30, step=0.5,
                                  help="How closely a model that reads text follows the prompt, apart from the goal.")
    count: int = param(2, "Count", ge=1, le=8, step=1, help="Pictures at each scale, from the same noise.")

    @property
    def looks_into_checkpoint(self) -> bool:
        return self.subject == CHECKPOINT or self.goal == "text"

    @property
    def gradients(self) -> str:
        if self.subject != CHECKPOINT:
            return ""
        return "network" if self.through_network else "decoder"


class LabLora(LabRequest):
    """Adapt a run by low-rank layers, or look into a LoRA file."""

    trains: ClassVar[bool] = True

    run_name: str = param(BUNDLED_RUN, "Model", max_length=200, help="A run with the network attention.")
    lesson: Lesson = param("inverted", "Lesson", help="What the low-rank layers learn: the run's own "
                                                          "pictures, changed.")
    ranks: str = param("1, 4, 16, 64", "Ranks", max_length=60, pattern=rf"^{NUMBERS}$",
                       help="One adaptation each, side by side: up to six numbers from 1 to 64.")
    projections: Projections = param("all", "Put into", help="Which matrices of the attention layers get low-rank "
                                                              "layers. The paper takes query and value.")
    updates: int = param(120, "Updates", ge=1, le=10_000, step=10, help="Steps of training for each rank.")
    learning_rate: float = param(5e-3, "Learning rate", gt=0, le=1, help="Size of a step.")
    scale: float = param(1.0, "Strength", ge=0, le=4, step=0.1, help="How much of the change is added when drawing.")
    file: str = param(NO_FILE, "LoRA file", max_length=200, help="Shows the size of the change by layer of a LoRA on "
                                                                 "this machine instead.")

    looks_into_checkpoint: ClassVar[bool] = False


class LabMemory(LabRequest):
    """What a training step of the loaded model costs."""

    side: int = param(128, "Resolution (px)", ge=64, le=2048, multiple_of=8, step=8, help="Side of the pictures.")
    batch_size: int = param(2, "Batch size", ge=1, le=64, step=1, help="Pictures computed at once.")
    accumulation: int = param(1, "Accumulation", ge=1, le=64, step=1, help="Batches that make one update.")
    precision: MemoryPrecision = param("float32", "Precision", help="mixed keeps the weights in float32 and computes "
                                                                    "in bfloat16.")
    checkpointing: bool = param(False, "Gradient checkpointing", help="Forgets activations and computes them again: "
                                                                      "less memory, about a third more time.")
    optimizer: OptimizerName = param("adamw", "Optimizer", help="What it remembers of each weight costs memory too.")
    measure: bool = param(True, "Measure", help="Makes one real training step as well and says what it took.")


PAGES: dict[str, type[LabRequest]] = {
    "film": Film, "noise": Noise, "autoencoder": Autoencoder, "words": Words, "train": LabTrain, "sample": LabSample,
    "finetune": LabFineTune, "guide": LabGuide, "lora": LabLora, "memory": LabMemory}


def check_hub(request: LabRequest, settings: Settings) -> None:
    """Raise RequestError for a request that would reach the hub where it must not: for visitors, and offline."""
    asked = next((name for name in ("hub_data", "hub_model", "push_to", "wandb") if getattr(request, name, "")), None)
    if asked and (settings.is_public or settings.offline):
        title = type(request).model_fields[asked].title
        why = "others can reach this page" if settings.is_public else "the app is offline"
        raise RequestError(f"{title}: nothing is fetched or sent while {why}.", asked)


@dataclass(frozen=True)
class LabJob:
    """Ask for a page's answer. page: a key of PAGES. model: the checkpoint that is looked into, or "" for none."""

    page: str
    request: LabRequest
    model: str
