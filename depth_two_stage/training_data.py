# SPDX-License-Identifier: Apache-2.0
"""Training examples: a random view of a frame, the points it gets, the input and the target."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from .datasets import Dataset, Sample, open_dataset, without_extremes
from .datasets.augmentation import Augmentation
from .datasets.mixing import Mixture
from .datasets.packed import Packing
from .datasets.sensors import draw_points
from .networks import NetworkSettings
from .networks.inputs import assemble, scene_unit
from .recipes import Data, Recipe, View
from .training_stages import TrainingError


def open_training(data: Data) -> Dataset | Mixture:
    """The frames that are trained on, and those beside them; nothing is decoded yet."""
    main = _open(data, data.split)[: data.limit or None]
    return Mixture(main, data.mix) if data.mix else main


def open_validation(data: Data) -> Sequence[Sample]:
    """The frames that are looked at during training; none where their number is 0."""
    looks = data.validation_limit
    return _open(data, data.validation_split)[:looks] if looks else ()


def to_pack(data: Data) -> list[Packing]:
    """What `--pack` writes: the training and validation frames as a run opens them, without a mix.

    Where both are one split, it is packed once, with the frames of both.
    """
    looks = data.validation_limit
    if looks and data.validation_split == data.split:
        frames = max(data.limit, looks) if data.limit else None
        return [Packing("training", data.split, _open(data, data.split)[:frames])]
    sets = [Packing("training", data.split, _open(data, data.split)[: data.limit or None])]
    if looks:
        sets.append(Packing("validation", data.validation_split, open_validation(data)))
    return sets


def _open(data: Data, split: str | None) -> Dataset:
    if data.root is None:
        raise TrainingError("data.root: expected the data set's folder, got none")
    return open_dataset(data.dataset, data.root, split)


def make_example(
    sample: Sample, recipe: Recipe, settings: NetworkSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A frame → (input float32 (C, h, w), target float32 (1, H, W) m, 0 = none).

    The camera's focal length becomes the network's canonical one, depth is divided by the ratio.
    The target of relative depth is in units of the scene.
    """
    _needs_depth(sample)
    drawn, view = recipe.view, view_of(recipe.view, settings, rng)
    truth = without_extremes(sample.depth) if recipe.data.mask_extremes else sample.depth
    if recipe.data.farthest:
        truth = np.where(truth < recipe.data.farthest, truth, np.float32(0))
    points = draw_points(sample, recipe.sparse, rng)
    if drawn.stretch and rng.random() < drawn.stretch and points.any():
        truth, points = stretched(truth, points, rng.uniform(*drawn.powers))
    rgb, depth, sparse, camera = view(sample.rgb, truth, points, sample.camera)
    rgb = recipe.photometry(rgb, rng)
    ratio = np.float32(camera.focal / settings.focal)
    x = assemble(rgb, sparse / ratio, settings.sparse_input, settings.mean_depth, settings.colour)
    height, width = settings.refined_size
    unit = scene_unit(sparse / ratio, settings.sparse_input, settings.mean_depth)
    depth = depth / np.float32(ratio * unit)
    target = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return x, target[None]


def view_of(drawn: View, settings: NetworkSettings, rng: np.random.Generator) -> Augmentation:
    """A random view of a frame for the network's input, as a recipe describes it."""
    size = {"size": settings.input_size, "focal": settings.focal}
    if drawn.paper is not None:
        return Augmentation.of(drawn.paper, rng, **size)
    ranges = {name: getattr(drawn, name) for name in ("rotation", "scale", "flip", "colour")}
    return Augmentation(rng, **ranges, **size)


def stretched(truth: np.ndarray, points: np.ndarray, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Truth and points (H, W) m, 0 = none, with ratios to the truth's median raised to a power.

    Points that are wrong stay wrong, and more so with a power above 1.
    """
    middle = np.float32(np.median(truth[truth > 0])) if (truth > 0).any() else np.float32(1)
    return tuple(
        np.where(depth > 0, middle * (depth / middle) ** np.float32(power), np.float32(0))
        for depth in (truth, points)
    )


def _needs_depth(sample: Sample) -> None:
    if sample.depth is None:
        raise ValueError(f"data: expected depth in every frame, got none in {sample.name}")


def mean_image(data: Dataset, focal: float, input_size: tuple[int, int]) -> list[list[float]]:
    """Mean depth of the frames as a camera of ``focal`` px sees them: rows (12, 16) of metres.

    ``focal`` belongs to ``input_size``, into which the whole frame is taken to be resized.
    """
    rows = []
    for index in range(len(data)):
        sample = data[index]
        _needs_depth(sample)
        ratio = sample.camera.resized(input_size[1], input_size[0]).focal / focal
        valid = (sample.depth > 0).astype(np.float32)
        small = cv2.resize(sample.depth / np.float32(ratio), (16, 12), interpolation=cv2.INTER_AREA)
        share = cv2.resize(valid, (16, 12), interpolation=cv2.INTER_AREA)
        rows.append(np.where(share > 0, small / np.maximum(share, 1e-6), np.nan))
    everything = np.stack(rows)
    if not np.isfinite(everything).any():
        raise ValueError(f"data: expected depth in some frame, got none in {len(data)}")
    with warnings.catch_warnings():  # places without depth in any frame take the mean of all
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(everything, axis=0)
    return np.round(np.where(np.isfinite(mean), mean, np.nanmean(mean)), 3).tolist()


#: bytes of decoded frames of the data sets beside the main one that stay in memory
KEPT_OF_OTHERS = 500_000_000


class Kept:
    """A data set whose decoded frames stay in memory as long as they fit into ``limit`` bytes."""

    def __init__(self, data: Dataset, limit: int = 1_500_000_000) -> None:
        self.data, self.left, self.frames = data, limit, {}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        if index in self.frames:
            return self.frames[index]
        sample = self.data[index]
        self.left -= sample.rgb.nbytes + sample.depth.nbytes
        if self.left > 0:
            self.frames[index] = sample
        return sample


class Batches:
    """Batches of one stage, each a function of (seed, stage, step) alone.

    So a resumed run sees what an uninterrupted one would have seen. In a distributed run each
    process makes its own share of the global batch. One thread prepares the next batch.
    """

    def __init__(
        self,
        data: Dataset | Mixture,
        recipe: Recipe,
        settings: NetworkSettings,
        stage: int,
        batch: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch % world or len(data) < batch:
            raise ValueError(
                f"batch: expected a multiple of {world} processes and at most {len(data)} frames, "
                f"got {batch}"
            )
        if stage > 0 and recipe.stage_two.none >= 0:
            points = dataclasses.replace(recipe.sparse, none=recipe.stage_two.none)
            recipe = dataclasses.replace(recipe, sparse=points)
        self.data, self.recipe, self.settings = Kept(data), recipe, settings
        self.mixture = data if isinstance(data, Mixture) else None
        others = data.others if self.mixture else ()
        self.others = [Kept(other, KEPT_OF_OTHERS // len(others)) for other in others]
        self.stage, self.batch, self.rank, self.world = stage, batch, rank, world
        self.per_epoch = len(data) // batch
        #: step → pixels of its frames' truth that are NaN, infinite or negative (none here)
        self.invalid: dict[int, int] = {}

    def make(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: (input (b, C, h, w), target (b, 1, H, W) m)."""
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.recipe.seed, self.stage, epoch]).permutation(
            len(self.data)
        )
        chosen = order[place * self.batch : (place + 1) * self.batch][self.rank :: self.world]
        samples = [self._frame(epoch, int(index)) for index in chosen]
        self.invalid[step] = sum(sample.invalid_depth for sample in samples)
        draws = (
            np.random.default_rng([self.recipe.seed, self.stage, epoch, int(index)])
            for index in chosen
        )
        made = [self.example(*each) for each in zip(samples, draws, strict=True)]
        return self.joined(*zip(*made, strict=True))

    def example(self, sample: Sample, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        """One frame's input and target."""
        return make_example(sample, self.recipe, self.settings, rng)

    def joined(self, inputs: Sequence[Any], targets: Sequence[np.ndarray]) -> tuple[Any, Tensor]:
        """Those of several frames as a batch."""
        return tuple(torch.from_numpy(np.stack(part)) for part in (inputs, targets))

    def _frame(self, epoch: int, index: int) -> Sample:
        """The frame of a place: the main set's, or one of the others drawn for it."""
        drawn = None
        if self.mixture is not None:  # by a generator of its own: the main set's views stay
            seed = [self.recipe.seed, self.stage, epoch, index, 1]
            drawn = self.mixture.draw(np.random.default_rng(seed))
        return self.data[index] if drawn is None else self.others[drawn[0]][drawn[1]]

    def run(self, start: int, stop: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Steps from ``start`` to ``stop`` with their batches."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.make, start) if start < stop else None
            for step in range(start, stop):
                x, target = ahead.result()
                if step + 1 < stop:
                    ahead = pool.submit(self.make, step + 1)
                yield step, x, target
