"""Train the embedded model, one stage after the other; every stage resumes where it was stopped.

    python -m pipelines.demo.recipe --stage data                    # fetch and draw, a minute
    python -m pipelines.demo.recipe --stage vae --minutes 25        # autoencoder
    python -m pipelines.demo.recipe --stage freeze                  # fix its encoder, cache latents
    python -m pipelines.demo.recipe --stage vae --minutes 40        # go on with the decoder alone (may run beside)
    python -m pipelines.demo.recipe --stage clip --minutes 8        # text encoder
    python -m pipelines.demo.recipe --stage unet --minutes 90
    python -m pipelines.demo.recipe --stage export                  # write the diffusers folder

    python -m pipelines.demo.recipe --stage adopt                   # begin with the shipped weights, not with nothing

Budgets count all runs of a stage together, so to train longer give a larger number. Packages, drawings, latents and
states lie in --cache-dir. Extra requirements: pipelines/demo/requirements.txt.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from pathlib import Path

from .config import Config, default_cache_dir

STAGES = ("data", "adopt", "vae", "freeze", "clip", "unet", "export")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipelines.demo.recipe", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, required=True)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="training time of this stage, all runs together")
    budget.add_argument("--steps", type=int, help="the same in steps; a resumed run is then exactly the unbroken one")
    parser.add_argument("--concepts", type=int, help="how many concepts to teach")
    parser.add_argument("--batch", type=int, help="pictures a step")
    parser.add_argument("--text-pace", type=float, help="the text encoder's share of the UNet's learning rate")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1,
                        help="threads that share out a batch (CPU only; default: one a core)")
    parser.add_argument("--threads", type=int, default=1, help="threads inside each operation")
    parser.add_argument("--cache-dir", type=Path, default=default_cache_dir())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "model",
                        help="the diffusers folder that --stage export writes and --stage adopt reads")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    changes = {k: v for k in ("concepts", "batch", "text_pace") if (v := getattr(args, k)) is not None}
    try:
        config = dataclasses.replace(Config(), **changes).check()
        run(args, config)
    except KeyboardInterrupt:
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def log(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def run(args: argparse.Namespace, config: Config) -> None:
    # Spinning OpenMP threads starve whatever else runs; this must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cache: Path = args.cache_dir
    cache.mkdir(parents=True, exist_ok=True)
    from . import data

    drawings, concepts = data.draw_all(cache, log)
    if args.stage == "data":
        return
    import torch

    workers = 1 if torch.cuda.is_available() else args.workers
    torch.set_num_threads(args.threads)
    if args.stage in ("vae", "clip", "unet") and args.minutes is None and args.steps is None:
        raise ValueError(f"--stage {args.stage} needs --minutes or --steps")
    if args.stage == "adopt":
        from .adopt import adopt

        return adopt(config, cache, concepts, args.out, log)
    budget = {"minutes": args.minutes, "steps": args.steps, "workers": workers}
    if args.stage in ("vae", "freeze"):
        from . import vae

        if args.stage == "vae":
            vae.train(config, cache, drawings, concepts, log=log, **budget)
        else:
            torch.set_num_threads(max(args.threads, workers))
            vae.freeze(config, cache, drawings, concepts, log)
    elif args.stage == "clip":
        from . import clip

        clip.train(config, cache, drawings, concepts, log=log, **budget)
    elif args.stage == "unet":
        from . import unet

        unet.train(config, cache, drawings, concepts, log=log, **budget)
    else:
        from . import unet

        unet.export(config, cache, drawings, concepts, args.out, log)


if __name__ == "__main__":
    sys.exit(main())
