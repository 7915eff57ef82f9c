"""Learn a LoRA, or the U-Net itself, from pictures. A run is a process of its own with a run folder.

    python -m pipelines.training CONFIG.toml | RUN_FOLDER [--resume | --probe]

values      request (the config), presets, events, captions, dataset, buckets, crops, archive      no torch
outside     folder (run folder, event log, commands), follow (start, watch, stop a run)     no torch
numbers     losses, lowrank, attention, optimizers, text, caches, examples, objective, trainee, tensors, state, team
the run     gradients (of an update, in parts), loop (updates, saves, trouble), probe (what fits, how long),
            sampling, export, report, run (puts it together)

May import the values and primitives of the engine and generate; run.py also asks cache.build for a pipeline. Start
reading at run.py and loop.py. Everything random follows from (seed, step), so states hold no generators.
"""
