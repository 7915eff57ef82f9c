"""Learn a LoRA, or the U-Net itself, from pictures. A run is a process of its own with a run folder.

    python -m pipelines.training CONFIG.toml | RUN_FOLDER [--resume | --probe]

request     the config; presets, events: values beside it                               no torch
dataset/    pictures and captions: listing, tables, survey, buckets, archive, crops     no torch
numbers/    what a step computes: base_model, trainable, lowrank, batches, caches, text, objective, gradients,
            optimizers, room (for encoding), distributed (several processes)
run/        folder (run folder, event log, commands), follow (start, watch, stop), store (the runs of a studio):
            no torch. loop (updates, saves, trouble), probe (what fits, how long), state, sampling, export, report,
            execute (puts it together)

Start reading at run/execute.py and run/loop.py. Everything random follows from (seed, step), so states hold no
generators.
"""
