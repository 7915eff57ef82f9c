"""The refusal of a request: a status and one short sentence."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not let in. status: the HTTP status; the text is the whole answer."""

    def __init__(self, status: int, text: str, retry_after_s: int = 0):
        super().__init__(text)
        self.status, self.retry_after_s = status, retry_after_s
