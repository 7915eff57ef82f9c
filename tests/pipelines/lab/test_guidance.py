"""Guidance as a wrapper of denoisers: its formulas, and that it steers with every sampler, ours and the app's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pipelines.diffusion import noise_schedules
from pipelines.errors import RequestError
from pipelines.families import FAMILIES
from pipelines.generation import samplers
from pipelines.lab import guidance, latent
from pipelines.lab.guidance import guided
from pipelines.lab.requests import Guide
from pipelines.lab.sampling import Level, ddim, ddpm, last
from pipelines.requests import make

LEVEL = Level(50, 0.6, 0.8)


def linear_denoiser(x: torch.Tensor, level: Level) -> torch.Tensor:
    """x0 of unit-normal data, known in closed form: alpha x."""
    return level.alpha * x


def test_scale_zero_changes_nothing():
    x = torch.randn(1, 3, 4, 4)
    plain = guided(linear_denoiser, guidance.towards_colour((1, -1, -1)), 0.0)
    assert torch.equal(plain(x, LEVEL), linear_denoiser(x, LEVEL))


def test_the_gradient_through_the_network_is_equation_14_of_the_paper():
    """Independent: the noise is changed as the paper says, by finite differences, and turned into x0."""
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    weights = torch.randn(4, 4, dtype=torch.float64)

    def denoiser(x_t: torch.Tensor, level: Level) -> torch.Tensor:
        return torch.tanh(x_t.flatten(1) @ weights).view_as(x_t)

    def loss(x0: torch.Tensor) -> torch.Tensor:
        return (x0 - 0.3).square().sum((1, 2, 3))

    slope, tiny = torch.zeros_like(x), 1e-6
    for i in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[i] = tiny
        moved = [loss(denoiser(x + sign * shift.view_as(x), LEVEL)) for sign in (1, -1)]
        slope.view(-1)[i] = (moved[0] - moved[1]) / (2 * tiny)
    x0 = denoiser(x, LEVEL)
    eps = (x - LEVEL.alpha * x0) / LEVEL.sigma + LEVEL.sigma * 2.5 * slope
    wanted = (x - LEVEL.sigma * eps) / LEVEL.alpha
    found = guided(denoiser, loss, 2.5, through_network=True)(x, LEVEL)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_the_short_cut_equals_the_full_gradient_for_data_of_unit_variance():
    x, loss = torch.randn(2, 3, 4, 4), guidance.towards_colour((0.5, 0.0, -0.5))
    full = guided(linear_denoiser, loss, 0.7, through_network=True)(x, LEVEL)
    short = guided(linear_denoiser, loss, 0.7)(x, LEVEL)
    assert torch.allclose(full, short, atol=1e-6)


@pytest.mark.parametrize(("over", "weight"), [
    ("none", 1.0), ("alpha-bar", 0.36), ("root of alpha-bar", 0.6), ("one minus alpha-bar", 0.64)])
def test_the_weight_over_time_scales_the_change(over, weight):
    x, loss = torch.randn(1, 3, 4, 4), guidance.towards_symmetry()
    plain = linear_denoiser(x, LEVEL)
    whole = guided(linear_denoiser, loss, 1.0)(x, LEVEL) - plain
    assert torch.allclose(guided(linear_denoiser, loss, 1.0, over)(x, LEVEL) - plain, weight * whole, atol=1e-6)


def test_scale_1_at_pure_noise_reaches_the_target_of_each_loss():
    x, noise = torch.randn(1, 3, 8, 8), Level(999, 0.0, 1.0)
    red = guided(lambda x, level: x, guidance.towards_colour((1, -1, -1)), 1.0)(x, noise)
    assert torch.allclose(red.mean((2, 3)), torch.tensor([[1.0, -1.0, -1.0]]), atol=1e-5)
    even = guided(lambda x, level: x, guidance.towards_symmetry(), 1.0)(x, noise)
    assert torch.allclose(even, even.flip(3), atol=1e-6)
    reference = torch.rand(1, 3, 8, 8)
    same = guided(lambda x, level: x, guidance.towards_reference(reference), 1.0)(x, noise)
    assert torch.allclose(same, reference, atol=1e-6)
    coarse = guided(lambda x, level: x, guidance.towards_reference(reference, coarse=4), 1.0)(x, noise)
    assert torch.allclose(F.avg_pool2d(coarse, 4), F.avg_pool2d(reference, 4), atol=1e-6)
    assert not torch.allclose(coarse, reference, atol=0.1)


def test_a_classifiers_loss_is_the_cross_entropy_and_steering_by_it_raises_the_class():
    torch.manual_seed(0)
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    x = torch.randn(2, 1, 4, 4)
    loss = guidance.towards_class(classifier, 2)
    assert torch.allclose(loss(x), F.cross_entropy(classifier(x), torch.tensor([2, 2]), reduction="none"))
    steered = guided(linear_denoiser, loss, 3.0)(x, LEVEL)
    assert (loss(steered) < loss(linear_denoiser(x, LEVEL))).all()


class StripeScorer:
    """A real, small scorer of pictures: its features are mean colours; texts name one of them."""

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3)) + 1.01

    def text_features(self, text: str) -> torch.Tensor:
        return torch.eye(3)[["red", "green", "blue"].index(text)][None]


def test_text_guidance_raises_the_score_with_any_sampler_and_any_number_of_crops():
    scorer = StripeScorer()
    for crops in (1, 4):
        loss = guidance.averaged_over_crops(guidance.towards_text(scorer, "green"), crops,
                                            torch.Generator().manual_seed(0))
        scores = []
        for scale in (0.0, 50.0):
            x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
            denoiser = guided(linear_denoiser, loss, scale)
            states = ddim(denoiser, noise_schedules.make("cosine", 100), x, [torch.Generator()], 10)
            scores.append(F.cosine_similarity(scorer.image_features(last(states).x), scorer.text_features("green")))
        assert scores[1] > scores[0] + 0.02


def test_the_spherical_distance_is_the_squared_angle():
    u, v = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])

    class Fixed:
        def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return u

        def text_features(self, text: str) -> torch.Tensor:
            return v

    quarter_turn = torch.tensor(torch.pi / 2)
    assert torch.allclose(guidance.towards_text(Fixed(), "")(torch.zeros(1)), quarter_turn**2 / 2)


def test_the_crops_are_the_same_for_the_same_generator_and_cover_the_picture():
    seen = []

    def record(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels.clone())
        return pixels.sum((1, 2, 3))

    picture = torch.rand(1, 1, 32, 32)
    for _ in range(2):
        guidance.averaged_over_crops(record, 6, torch.Generator().manual_seed(4))(picture)
    assert all(torch.equal(a, b) for a, b in zip(seen[:6], seen[6:], strict=True))
    assert len({float(one.mean()) for one in seen[:6]}) >= 5
    assert all(one.shape == picture.shape for one in seen)


@pytest.mark.parametrize("over", guidance.OVER_TIME)
@pytest.mark.parametrize("through_network", [False, True])
def test_colour_moves_towards_its_target_with_scale_under_the_ancestral_sampler(over, through_network):
    target, distances = torch.tensor([0.8, -0.6, 0.1]), []
    for scale in (0.0, 0.3, 0.6, 1.0):
        generators = [torch.Generator().manual_seed(2)]
        x = torch.randn(1, 3, 8, 8, generator=generators[0])
        denoiser = guided(linear_denoiser, guidance.towards_colour(tuple(target.tolist())), scale, over,
                          through_network)
        drawn = last(ddpm(denoiser, noise_schedules.make("cosine", 60), x, generators)).x
        distances.append(float((drawn.mean((2, 3)) - target).norm()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.8 * distances[0]


def test_a_request_becomes_the_guidance_it_describes():
    x = torch.randn(1, 3, 8, 8)
    blue = make(Guide, goal="colour", colour="#0000ff", scale=0.5, over="alpha-bar")
    wanted = guided(linear_denoiser, guidance.towards_colour((-1, -1, 1)), 0.5, "alpha-bar")(x, LEVEL)
    assert torch.allclose(guidance.asked(blue, linear_denoiser, guidance.Means())(x, LEVEL), wanted, atol=1e-6)
    score = make(Guide, goal="text", prompt="red", scale=5.0, crops=3)
    steered = guidance.asked(score, linear_denoiser, guidance.Means(scorer=StripeScorer()))(x, LEVEL)
    assert not torch.equal(steered, linear_denoiser(x, LEVEL))


@pytest.mark.parametrize("goal", ["text", "classifier", "reference"])
def test_a_goal_without_its_means_is_refused_by_name(goal):
    with pytest.raises(RequestError, match="Goal: this goal needs a"):
        guidance.asked(make(Guide, goal=goal, prompt="red"), linear_denoiser, guidance.Means())


@pytest.fixture(scope="module")
def pipe(sd_folder):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(sd_folder, safety_checker=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M", "DDIM", "Heun", "UniPC"])
def test_colour_of_a_latent_model_moves_towards_its_target_with_scale(pipe, sampler):
    decode, target, distances = latent.decoder(pipe), (0.6, -0.6, -0.6), []
    for scale in (0.0, 1.0, 4.0, 8.0):
        config = {**pipe.scheduler.config, "clip_sample": False}  # as in the files of published models
        scheduler = samplers.make(sampler, "Automatic", config, 6, "cpu")
        latents, generators = latent.start(pipe, scheduler, 64, 64, [5])
        plain = latent.TextDenoiser(pipe, FAMILIES["sd15"], "a red cat", guidance_scale=2.0)
        denoiser = guided(plain, guidance.on_pictures(guidance.towards_colour(target), decode), scale, "alpha-bar")
        drawn = last(latent.walk(denoiser, sampler, scheduler, latents, generators)).latents
        with torch.no_grad():
            distances.append(float((decode(drawn).mean((2, 3)) - torch.tensor(target)).norm()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] - 0.05
