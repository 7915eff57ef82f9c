"""HTTP as these tests speak it: patient with a busy machine, and without certificates, as all of it is in the clear."""

from __future__ import annotations

from functools import partial

import httpx

KIND = {"timeout": 60, "verify": False}

get = partial(httpx.get, **KIND)
post = partial(httpx.post, **KIND)
request = partial(httpx.request, **KIND)
Client = partial(httpx.Client, **KIND)
