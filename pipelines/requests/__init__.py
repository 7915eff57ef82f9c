"""What can be asked of the studio: frozen values, every parameter declared once.

From the one `param(...)` line come the control and its tooltip, the range check, the public endpoint's
parameter, the infotext key, the grid axis and the AUTOMATIC1111 name; param.py lists what it can say. A default of
None means "as the model likes"; the studio's resolver makes it concrete. Pictures are ids (SHA-256 of the stored
file), never pixels. request.py has what every request has, tasks.py the rest.
"""

from __future__ import annotations

from .param import SHOWN_INPUT as SHOWN_INPUT
from .param import a1111_fields as a1111_fields
from .param import changed as changed
from .param import extra_of as extra_of
from .param import fields_of as fields_of
from .param import make as make
from .param import open_seeds as open_seeds
from .param import param as param
from .request import MAX_PROMPT as MAX_PROMPT
from .request import MAX_SEED as MAX_SEED
from .request import MAX_SEED_32 as MAX_SEED_32
from .request import Request as Request
from .tasks import HIRES_UPSCALERS as HIRES_UPSCALERS
from .tasks import LANCZOS as LANCZOS
from .tasks import MAX_PIXELS as MAX_PIXELS
from .tasks import MAX_SIDE as MAX_SIDE
from .tasks import MAX_UPSCALED_SIDE as MAX_UPSCALED_SIDE
from .tasks import TASKS as TASKS
from .tasks import Img2Img as Img2Img
from .tasks import Inpaint as Inpaint
from .tasks import ResizeMode as ResizeMode
from .tasks import Txt2Img as Txt2Img
from .tasks import Upscale as Upscale
from .tasks import pipeline_of as pipeline_of
from .tasks import task_of as task_of
