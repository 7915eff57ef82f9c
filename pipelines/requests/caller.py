"""Who asks for something: a value that can be stored and sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """Who asks, from where, and in which language.

    page: id of the page that will follow the job, None for a caller that waits in place; such a job runs to its end
    whatever happens. owner: id of the login or browser whose pictures they are. is_guest: of a page that others can
    reach; what they may have waiting is limited. language: code of the language for words drawn into pictures.
    """

    page: str | None = None
    owner: str = ""
    is_guest: bool = False
    language: str = "en"


NOBODY = Caller()
