"""The engine: from a request to pictures. It knows nothing of web pages.

May import torch, diffusers, transformers, numpy and PIL; never gradio, fastapi or ui.

Layers, each importing only what stands before it (tests/test_architecture.py has the exact table):
values      errors, events, settings, requests, metadata (no torch)
primitives  machine, queue, diffusion, families, prompts, images, library, adapters, models
work        generation, training, lab (receive a leased pipeline; do not know the cache)
lifetime    studio, which holds cache, queue and stores

Start reading at studio/studio.py (one way into the queue) and generation/generate.py (how a picture is made).
To add a model family, put one file into families/ that exports FAMILY. To add a sampler, add a row to
generation/sampler_table.py. Nothing runs at import: torch is first imported when the first job runs.
"""
