"""How many digits of a model trained for three minutes a classifier recognises: python -m benchmarks.digits

    python -m benchmarks.digits                  trains for three minutes on the machine as it is
    python -m benchmarks.digits --minutes 1      or for another time
    python -m benchmarks.digits --run DIR        judges a run that is there

Trains and draws 64 pictures of each digit from the command line, as docs/lab.md says, and asks a classifier that
learned from the real digits alone. Prints how many it recognises (the promise is 80 %), and how far the run came.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.lab.__main__ import main as lab

COUNT = 64  # pictures of each digit
PROMISE = 0.8


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", default="3", help="How long to train.")
    parser.add_argument("--run", type=Path, help="A run to judge instead of training one.")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        run = given.run or trained(Path(folder) / "run", given.minutes)
        shares = recognised(run, Path(folder) / "drawn")
        last = json.loads((run / "log.jsonl").read_text("utf-8").splitlines()[-1])
    print(f"epochs {last['epoch']}, updates {last['step']}, loss {last['loss']:.4f}")
    print("recognised by digit: " + ", ".join(f"{digit} {share:.0%}" for digit, share in enumerate(shares)))
    print(f"recognised: {np.mean(shares):.1%} of {len(shares) * COUNT} pictures (the promise is {PROMISE:.0%})")
    return int(np.mean(shares) < PROMISE)


def trained(run: Path, minutes: str) -> Path:
    """Train on scikit-learn's digits."""
    asked = ["train", "--data", "digits", "--output", str(run), "--minutes", minutes, "--seed", "1"]
    if lab(asked):
        raise SystemExit("Training failed.")
    return run


def recognised(run: Path, folder: Path) -> list[float]:
    """Draw COUNT pictures of each digit into a folder; returns the share that is recognised, by digit.

    The classifier, support vectors on the real digits, is right about 99 % of digits it has not seen.
    """
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC

    real = load_digits()
    classifier, shares = SVC(gamma=0.001, C=10).fit(real.data, real.target), []
    for digit in range(10):
        drawn = folder / str(digit)
        if lab(["sample", str(run), "--class", str(digit), "--count", str(COUNT), "--sampler", "ddim", "--steps", "20",
                "--seed", "1", "--output", str(drawn)]):
            raise SystemExit("Drawing failed.")
        pixels = np.stack([_pixels(file) for file in sorted(drawn.glob("*.png"))])
        if pixels.std(0).mean() < 10:
            raise SystemExit(f"All pictures of {digit} are the same.")
        shares.append(float((classifier.predict(pixels / 255 * 16) == digit).mean()))
    return shares


def _pixels(file: Path) -> np.ndarray:
    """(64,) from 0 to 255, as the real digits lie in rows."""
    with Image.open(file) as image:
        return np.asarray(image.convert("L").resize((8, 8), Image.Resampling.BOX), float).ravel()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
