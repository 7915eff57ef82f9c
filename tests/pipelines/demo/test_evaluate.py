"""What is measured, on pictures whose answer is known."""

import json

import numpy as np
import pytest

from pipelines.demo import MODEL_DIR, evaluate
from pipelines.demo.matching import border, lab, small


def test_lab_knows_white_gray_and_red():
    white, gray, red = lab(np.array([[255, 255, 255], [119, 119, 119], [255, 0, 0]]))
    assert np.allclose(white, [100, 0, 0], atol=0.5) and np.allclose(gray, [50, 0, 0], atol=1)
    assert np.allclose(red, [53.2, 80.1, 67.2], atol=1)


def test_the_background_is_read_from_the_border():
    picture = np.full((128, 128, 3), (0, 0, 255), np.uint8)
    picture[30:100, 30:128] = 255
    assert np.allclose(border(small(picture)), lab(np.array([0, 0, 255])), atol=0.5)


def test_the_spread_of_equal_pictures_is_nothing_and_of_noise_is_one():
    rng = np.random.default_rng(0)
    noise = list(rng.integers(0, 255, (6, 32, 32, 3), np.uint8))
    assert evaluate.spread([noise[0], noise[0], noise[1], noise[1]], 2) < 1e-3
    assert evaluate.spread(noise, 2) == pytest.approx(1, abs=0.1)


def test_correlation_of_a_picture_with_itself_and_its_negative():
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    assert evaluate.correlation(picture, picture) == pytest.approx(1)
    assert evaluate.correlation(picture, 255 - picture) == pytest.approx(-1)


def test_unseen_prompts_are_the_pairs_held_out():
    vocabulary = json.loads((MODEL_DIR.parent / "vocabulary.json").read_text())
    names, styles = list(vocabulary["concepts"]), vocabulary["styles"]
    held_out = {tuple(p) for p in vocabulary["held_out"]}
    for unseen in (True, False):
        drawn = evaluate.prompts_for(vocabulary, 50, unseen)
        assert len(drawn) == 50 and drawn == evaluate.prompts_for(vocabulary, 50, unseen)
        assert all(((names[i], styles[s]) in held_out) == unseen for i, s, _ in drawn)


def test_prompts_to_choose_by_are_none_of_those_that_are_reported():
    vocabulary = json.loads((MODEL_DIR.parent / "vocabulary.json").read_text())
    reported, others = (evaluate.prompts_for(vocabulary, 200, False, skip) for skip in (0, 200))
    assert not {w[:2] for w in reported} & {w[:2] for w in others}


def test_things_of_like_layout_correlate_and_any_thing_may_be_far():
    from pipelines.demo.matching import References

    vocabulary = json.loads((MODEL_DIR.parent / "vocabulary.json").read_text())
    names, styles, colours = (list(vocabulary[key]) for key in ("concepts", "styles", "colours"))
    references = References.load(MODEL_DIR.parent)
    noto, white = styles.index("noto"), colours.index("white")
    light = np.corrcoef(references.lightness(noto, white))
    moon, apple, pear = (names.index(name) for name in ("crescent moon", "red apple", "pear"))
    assert light[apple, pear] > light[apple, moon]

    seen = evaluate.prompts_for(vocabulary, 60, False)
    alike, anything = (evaluate.exchanges(references, seen, least) for least in (0.6, -1.0))
    assert 20 < len(alike) < 60 == len(anything)
    for j, (new, style, colour) in alike:
        old = seen[j]
        assert new != old[0] and (style, colour) == old[1:]
        assert np.corrcoef(references.lightness(style, colour)[[old[0], new]])[0, 1] >= 0.6
    assert np.mean([np.corrcoef(references.lightness(s, k)[[seen[j][0], c]])[0, 1] for j, (c, s, k) in anything]) < 0.4


@pytest.mark.slow
def test_the_whole_measurement_runs(tmp_path):
    table = evaluate.evaluate(MODEL_DIR, tmp_path, 12, tmp_path / "sheet.png", log=lambda text: None)
    assert (tmp_path / "sheet.png").exists() and "| measure | value |" in evaluate.show(table)
    assert table["background, 12 prompts"] >= 0.7
