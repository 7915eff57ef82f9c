"""The engine: from a request to pictures. It knows nothing of web pages.

May import torch, diffusers, transformers, numpy and PIL; never gradio, fastapi or ui.

Layers, each importing only what stands before it:
values      requests, events, errors, settings, metadata (no torch)
primitives  device, families, samplers, prompts, images, models
work        generate (receives a leased pipeline; does not know the cache)
lifetime    cache, jobs, and studio, which holds them

Start reading at studio.py and resolver.py (what happens to a request) and generation/generate.py (how a picture is
made).
To add a model family, put one file into families/ that exports FAMILY. To add a sampler, add a row to
samplers.py. Nothing runs at import: torch is first imported when the first job runs.
"""
