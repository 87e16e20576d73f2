# SPDX-License-Identifier: Apache-2.0
"""The confidence formula, its fit, and the file beside the weights."""

import numpy as np
import pytest

from depth_two_stage import files
from depth_two_stage.confidence import FEATURES, Confidence, calibration_path, features, fit

SIZE = (64, 80)


class Checkpoint:
    """Only what `Confidence.of` reads of a checkpoint."""

    name, checksum = "narrow", "0123"

    def __init__(self, folder):
        self.path = folder / "narrow-1-of-2.safetensors"


def maps():
    """Return refined with a step, coarse, and points on the left, in another unit."""
    refined = np.full(SIZE, 2.0, np.float32)
    refined[:, 40:] = 4.0
    coarse = refined.copy()
    coarse[:20] *= 1.1
    points = np.zeros(SIZE, np.float32)
    points[::8, 4:20:8] = 0.5
    return refined, coarse, points


def test_features_mean_what_they_say():
    f = dict(zip(FEATURES, features(*maps()), strict=True))
    assert (f["bias"] == 1).all()
    assert f["distance"][8, 12] == 0 and f["distance"][8, 60] > f["distance"][8, 30] > 0
    assert (f["stages"][:20] > 0.9).all() and (f["stages"][20:] == 0).all()
    assert (f["edge"][:, 38:42] > 1).all() and (f["edge"][:, :37] == 0).all()
    assert (f["wide"][:, 35] > 1).all() and (f["wide"][:, 20] == 0).all()
    np.testing.assert_allclose(f["depth"][0, [0, 79]], np.log([2, 4]), rtol=1e-6)
    departure = np.log1p(20 * np.log(2) / 2)  # of both halves from the median
    np.testing.assert_allclose(f["departure"], departure, rtol=1e-5)


def test_confidence_falls_where_doubt_rises_and_is_never_constant():
    refined, coarse, points = maps()
    for mask in (points, None, np.zeros(SIZE, np.float32)):
        p = Confidence()(refined, coarse, mask)
        assert p.shape == SIZE and p.dtype == np.float32
        assert p.min() >= 0 and p.max() <= 1 and p.std() > 0.02
        assert p[30, 40] < p[30, 20]  # at the edge
        assert p[10, 20] < p[30, 20]  # where the stages differ
    p = Confidence()(refined, coarse, points)
    assert p[40, 12] > p[44, 33]  # at a point


def test_fit_ranks_by_the_size_of_errors_and_says_how_probable_right_is():
    rng = np.random.default_rng(0)
    x = np.zeros((40000, len(FEATURES)))
    x[:, 0] = 1
    x[:, 1:3] = rng.normal(size=(40000, 2))
    deviation = np.exp(0.5 * x[:, 1] - 0.25 * x[:, 2])  # so ln of the square is x1 - x2 / 2
    error = deviation * rng.normal(size=40000)
    weights = fit(x, np.abs(error) < 1, error**2 / np.mean(error**2))
    assert weights[1] < 0 < weights[2] and weights[1] / weights[2] == pytest.approx(-2, rel=0.2)
    p = 1 / (1 + np.exp(-x @ weights))
    for low, high in ((0.3, 0.5), (0.5, 0.7), (0.7, 0.9)):
        some = (low < p) & (p < high)
        assert np.mean(np.abs(error[some]) < 1) == pytest.approx(p[some].mean(), abs=0.05)


def test_fit_survives_features_that_never_vary_and_answers_that_never_differ():
    x = np.zeros((100, len(FEATURES)))
    x[:, 0] = 1
    w = fit(x, np.ones(100, bool), np.ones(100))
    assert np.isfinite(w).all() and (w[1:] == 0).all() and w[0] > 2


def test_the_file_beside_the_weights_is_used_and_checked(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    assert not Confidence.of(checkpoint).calibrated
    weights = {"points": np.arange(10.0), "no_points": np.arange(10.0) / 2}
    path = calibration_path(checkpoint)
    assert path.name == "narrow.confidence.json"
    files.write_json(path, {"checksum": "0123", "weights": weights})
    read = Confidence.of(checkpoint)
    assert read.calibrated
    np.testing.assert_array_equal(read.weights["no_points"], weights["no_points"])
    files.write_json(path, {"checksum": "other", "weights": weights})
    with pytest.warns(RuntimeWarning, match="expected a calibration of weights 0123, got one of"):
        assert not Confidence.of(checkpoint).calibrated
    short = {"points": [1, 2], "no_points": [1, 2]}
    files.write_json(path, {"checksum": "0123", "weights": short})
    with pytest.raises(ValueError, match="confidence points: expected 10 finite numbers"):
        Confidence.of(checkpoint)
    foreign = {"checksum": "0123", "weights": weights, "features": list("abcdefghij")}
    files.write_json(path, foreign)
    with pytest.raises(files.FileError, match="unknown features a, b, c"):
        Confidence.of(checkpoint)
    for wrong in (5, [1], None, {"points": [1, 2]}, {"points": ["a"], "no_points": []}):
        files.write_json(path, {"checksum": "0123", "weights": wrong})
        with pytest.raises(files.FileError, match=r"confidence\.json: expected weights"):
            Confidence.of(checkpoint)
