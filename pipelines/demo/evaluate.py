"""Measure the embedded model: does it draw what the prompt says?

    python -m pipelines.demo.evaluate                    # the shipped folder, a few minutes on two CPU cores
    python -m pipelines.demo.evaluate --prompts 40       # a quick look
    python -m pipelines.demo.evaluate --prompts 200 --skip 300 --guidance 3     # to choose by: not the table's prompts

Prints a table (the one in README.md) and writes a sheet of pictures. Needs nothing beside the shipped files; where
the recipe's drawings are cached, the autoencoder's PSNR on held-out drawings is measured as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .config import default_cache_dir


def prompts_for(vocabulary: dict, count: int, unseen: bool, skip: int = 0) -> list[tuple[int, int, int]]:
    """(concept, style, colour) indices: a fixed draw among the pairs held out of training, or among the others.

    skip: pairs at its beginning that are left to somebody else.
    """
    rng = random.Random(7)
    names, styles = list(vocabulary["concepts"]), vocabulary["styles"]
    held_out = {tuple(pair) for pair in vocabulary["held_out"]}
    pairs = [(i, s) for i, name in enumerate(names) for s, style in enumerate(styles)
             if ((name, style) in held_out) == unseen]
    rng.shuffle(pairs)
    pairs = pairs[skip:] + pairs[:skip]
    return [(*pairs[i % len(pairs)], rng.randrange(len(vocabulary["colours"]))) for i in range(count)] if pairs else []


class Studio:
    """The three stock pipelines on one set of weights, with its settings, called in batches with a seed a picture."""

    def __init__(self, folder: Path):
        import torch
        from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline

        self.torch = torch
        self.text = StableDiffusionPipeline.from_pretrained(folder)
        parts = {**self.text.components, "requires_safety_checker": False}
        liked = json.loads((folder / "atelier.json").read_text())
        self.settings = {"num_inference_steps": liked["steps"], "guidance_scale": liked["guidance_scale"]}
        self.image = StableDiffusionImg2ImgPipeline(**parts)
        self.inpaint = StableDiffusionInpaintPipeline(**parts)
        for pipe in (self.text, self.image, self.inpaint):
            pipe.set_progress_bar_config(disable=True)

    def __call__(self, pipe, prompts: list[str], seeds: list[int], batch: int = 20, **lists) -> list[np.ndarray]:
        """Draw one (h, w, 3) uint8 picture for each prompt; `lists` hold one input picture or mask each."""
        pictures = []
        for at in range(0, len(prompts), batch):
            part = slice(at, at + batch)
            pictures += pipe(prompts[part], **self.settings, generator=[
                self.torch.Generator().manual_seed(s) for s in seeds[part]],
                **{k: v[part] if isinstance(v, list) else v for k, v in lists.items()}).images
        return [np.asarray(p) for p in pictures]


def fidelity(references, pictures, wanted) -> dict[str, float]:
    """Shares of pictures whose concept, style and background are the wanted (concept, style, colour)."""
    hits = np.zeros(4)
    for picture, (i, s, k) in zip(pictures, wanted, strict=False):
        match = references.match(picture, i)
        hits += [match.concepts[0] == i, i in match.concepts[:5], match.style == s, match.colour == k]
    return dict(zip(("top-1", "top-5", "style", "background"), hits / len(wanted), strict=False))


def tower_prefers(scorer, pictures: list[np.ndarray], new: list[str], old: list[str]) -> float:
    """Share of pictures (h, w, 3) uint8 that fit their new name better than their old one, by the image tower."""
    import torch

    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1
    features = scorer.image_features(pixels)
    towards = torch.cat([scorer.text_features(f"a {a}") - scorer.text_features(f"a {b}")
                         for a, b in zip(new, old, strict=True)])
    return float(((features * towards).sum(1) > 0).float().mean())


def tower_hits(scorer, pictures, names: list[str], wanted: list[int]) -> float:
    """Share of pictures (h, w, 3) uint8 to which the image tower gives the name of the wanted index."""
    import torch

    texts = torch.cat([scorer.text_features(f"a {name}") for name in names])
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1
    best = (scorer.image_features(pixels) @ texts.T).argmax(1)
    return float((best == torch.tensor(wanted)).float().mean())


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of luminance between two pictures (h, w, 3)."""
    a, b = (p.astype(np.float64) @ [0.299, 0.587, 0.114] for p in (a, b))
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def exchanges(references, seen: list[tuple[int, int, int]], alike: float) -> list[tuple[int, tuple[int, int, int]]]:
    """For each of the (concept, style, colour) that has one, another concept for it: (its place in `seen`, wanted).

    alike: what the lightness of the two drawings, laid in the same frame, must correlate by at least. Two drawings of
    the vocabulary correlate by 0.2 in the mean, so over 0.6 none but such a pair can keep the layout and be exchanged.
    """
    rng, found = random.Random(11), []
    for j, (i, s, k) in enumerate(seen):
        light = references.lightness(s, k)
        others = [c for c in np.flatnonzero(np.corrcoef(light)[i] >= alike).tolist() if c != i]
        if others:
            found.append((j, (rng.choice(others), s, k)))
    return found


def spread(pictures: list[np.ndarray], seeds: int) -> float:
    """Mean distance between pictures of one prompt over that between pictures of different prompts (32x32 Lab).

    pictures: `seeds` in a row for each prompt.
    """
    from .matching import small

    x = np.stack([small(p).reshape(-1) for p in pictures])
    d = np.sqrt(np.maximum(0, (x ** 2).sum(1)[:, None] + (x ** 2).sum(1)[None] - 2 * x @ x.T))
    group = np.arange(len(x)) // seeds
    same = group[:, None] == group[None]
    return float(d[same & ~np.eye(len(x), dtype=bool)].mean() / d[~same].mean())


def held_out_psnr(vae, cache: Path) -> float | None:
    """PSNR in dB on drawings the autoencoder never saw; None where no drawings are cached."""
    if not (cache / "drawings.npy").exists():
        return None
    from . import data
    from .training import Draw
    from .vae import batch, held_out_concepts, psnr

    drawings, all_concepts = data.draw_all(cache)
    out = held_out_concepts(all_concepts)
    return psnr(vae, batch(drawings, (out, out), Draw(99, 0), 96, vae.config.sample_size))


def labelled(rows: list[tuple[str, list[np.ndarray], list[str]]], margin_px: int = 130,
             strip_px: int = 15) -> Image.Image:
    """A sheet: a title at the left of each row of pictures, and under each picture what it should show."""
    side = rows[0][1][0].shape[0]
    width, height = max(len(pictures) for _, pictures, _ in rows), side + strip_px
    sheet = Image.new("RGB", (margin_px + side * width, height * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for y, (title, pictures, names) in enumerate(rows):
        pen.multiline_text((6, y * height + 6), title, fill="black", spacing=3)
        for x, (picture, name) in enumerate(zip(pictures, names, strict=False)):
            sheet.paste(Image.fromarray(picture), (margin_px + x * side, y * height))
            pen.text((margin_px + x * side + 3, y * height + side + 1), name[:20], fill="black")
    return sheet


def evaluate(folder: Path, cache: Path, count: int, sheet_path: Path, log=print, *, skip: int = 0,
             guidance: float | None = None) -> dict[str, float]:
    """Run all measurements on `count` prompts after `skip` others; return {row: value} and write the sheet.

    guidance: another scale than the model's own.
    """
    import torch

    from .matching import References
    from .tower import Scorer

    vocabulary = json.loads((folder.parent / "vocabulary.json").read_text())
    references = References.load(folder.parent)
    names, styles, colours = (list(vocabulary[k]) for k in ("concepts", "styles", "colours"))
    studio = Studio(folder)
    if guidance is not None:
        studio.settings["guidance_scale"] = guidance

    def text(i: int, s: int, k: int) -> str:
        return f"a {names[i]}, {styles[s]} style, {colours[k]} background"

    table: dict[str, float] = {}
    seen = prompts_for(vocabulary, count, False, skip)
    pictures = studio(studio.text, [text(*w) for w in seen], list(range(len(seen))))
    table |= {f"{k}, {len(seen)} prompts": v for k, v in fidelity(references, pictures, seen).items()}
    scorer = Scorer.load(folder)
    table["top-1 by the image tower"] = tower_hits(scorer, pictures, names, [w[0] for w in seen])
    rows = [(f"text to image\n{at + 1} to {at + 10}", pictures[at:at + 10], [names[w[0]] for w in seen[at:at + 10]])
            for at in range(0, min(60, len(seen)), 10)]

    unseen = prompts_for(vocabulary, min(count // 3, 2 * len(vocabulary["held_out"])), True)
    if unseen:
        new = studio(studio.text, [text(*w) for w in unseen], list(range(1000, 1000 + len(unseen))))
        table |= {f"{k}, {len(unseen)} prompts of unseen pairs": v
                  for k, v in fidelity(references, new, unseen).items()}
        rows.append(("pairs of thing and\nstyle never seen", new[:10], [names[w[0]] for w in unseen[:10]]))

    seeds = 5
    few = seen[:max(2, count // 12)]
    many = studio(studio.text, [text(*w) for w in few for _ in range(seeds)],
                  list(range(2000, 2000 + seeds * len(few))))
    table["spread within a prompt / between prompts"] = spread(many, seeds)
    rows.append((f"{seeds} seeds each", many[:2 * seeds], [names[w[0]] for w in few[:2] for _ in range(seeds)]))

    # A picture of one thing becomes another, one of like layout and any other; then another is put into its middle.
    n = max(4, count // 3)  # the mean correlation of a hundred is known to 0.03
    for title, alike, first in (("of like layout", 0.6, 3000), ("any", -1.0, 5000)):
        pairs = exchanges(references, seen, alike)[:n]
        wanted, said = [w for _, w in pairs], [text(*w) for _, w in pairs]
        sources = [Image.fromarray(pictures[j]) for j, _ in pairs]
        old = [np.asarray(one) for one in sources]
        changed = studio(studio.image, said, list(range(first, first + len(pairs))), image=sources, strength=0.5)
        row = f"image to image 0.5, {title}: "
        table[row + "correlation of the drawings"] = float(np.mean(
            [np.corrcoef(references.lightness(s, k)[[seen[j][0], c]])[0, 1] for j, (c, s, k) in pairs]))
        table[row + "luminance correlation"] = float(np.mean(list(map(correlation, old, changed))))
        for moment, made in (("", changed), (" before", old)):
            table[row + "top-5 of the new concept" + moment] = fidelity(references, made, wanted)["top-5"]
        table[row + "the image tower prefers the new name"] = tower_prefers(
            scorer, changed, [names[w[0]] for w in wanted], [names[seen[j][0]] for j, _ in pairs])
        rows.append(("sources", old[:10], [names[seen[j][0]] for j, _ in pairs]))
        rows.append((f"image to image 0.5,\n{title}", changed[:10], [names[w[0]] for w in wanted]))
    side = sources[0].width
    mask = Image.new("L", (side, side))
    mask.paste(255, (side // 8, side // 8, side - side // 8, side - side // 8))
    filled = studio(studio.inpaint, said, list(range(4000, 4000 + n)), image=sources, mask_image=[mask] * n,
                    strength=1.0, height=side, width=side)
    table["inpainting: top-5 of the new concept"] = fidelity(references, filled, wanted)["top-5"]
    rows.append(("inpainting the\nmiddle", filled[:10], [names[w[0]] for w in wanted[:10]]))

    began = time.monotonic()
    studio(studio.text, [text(*seen[0])], [0])
    steps, threads = studio.settings["num_inference_steps"], torch.get_num_threads()
    table[f"seconds for {steps} steps, {threads} threads"] = time.monotonic() - began
    if (value := held_out_psnr(studio.text.vae, cache)) is not None:
        table["autoencoder PSNR on held-out drawings, dB"] = value
    table["size of the folder, MB"] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    labelled(rows).save(sheet_path)
    log(f"sheet: {sheet_path}")
    return table


def show(table: dict[str, float]) -> str:
    """The table as Markdown: shares as percentages, the rest as numbers."""
    share = ("top-", "style", "background", "spread", "inpainting")
    lines = [f"| {k} | {f'{v:.1%}' if k.startswith(share) or 'new' in k else f'{v:.2f}'} |" for k, v in table.items()]
    return "\n".join(["| measure | value |", "|---|---|", *lines])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.demo.evaluate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "model", help="folder to measure")
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--skip", type=int, default=0, help="begin after so many: settings are chosen on other prompts")
    parser.add_argument("--guidance", type=float, help="another guidance scale than the model's own")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--cache-dir", type=Path, default=default_cache_dir())
    parser.add_argument("--sheet", type=Path, help="where the sheet goes (default: evaluation.png in the cache)")
    args = parser.parse_args(argv)
    if args.prompts < 12:
        parser.error(f"--prompts {args.prompts}: at least 12")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    sheet = args.sheet or args.cache_dir / "evaluation.png"
    sheet.parent.mkdir(parents=True, exist_ok=True)
    print(show(evaluate(args.model, args.cache_dir, args.prompts, sheet, lambda text: print(text, file=sys.stderr),
                        skip=args.skip, guidance=args.guidance)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
