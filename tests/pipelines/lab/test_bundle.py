"""The models that come along can be made again: what is written draws, and says the same as the run it came from."""

from __future__ import annotations

import torch

from pipelines.diffusion import noise_schedules
from pipelines.lab import bundle, checkpoints, finetune
from pipelines.lab.sampling import ddim, denoiser_of, last

SHAPE = (2, 1, 8, 8)


def test_both_models_are_trained_and_written_as_they_lie_in_the_repository(tmp_path):
    assert bundle.main(tmp_path, minutes=0.001) == 0
    for name in ("digits", "digits-ddpm"):
        made, bundled = (sorted(path.relative_to(root / name).as_posix() for path in (root / name).rglob("*")
                                if path.is_file()) for root in (tmp_path, bundle.BUNDLED))
        assert made == bundled

    model = checkpoints.load_model(tmp_path / "digits")
    assert model.classes == tuple("0123456789")
    noise, generators = model.noise([1, 2])
    drawn = last(ddim(denoiser_of(model.network, model.prediction, torch.eye(10)[:2], 2.0), model.schedule, noise,
                      generators, 2)).x
    assert drawn.shape == SHAPE and drawn.isfinite().all()
    assert str(tmp_path) not in str(checkpoints.read(tmp_path / "digits")["request"])

    pipe = finetune.load(tmp_path / "digits-ddpm", torch.device("cpu"))
    assert finetune.sample(pipe, [1, 2], 2).shape == SHAPE
    cosine = noise_schedules.cosine(1000).alphas_cumprod
    assert torch.allclose(finetune.schedule_of(pipe).alphas_cumprod, cosine, atol=1e-6)
