# SPDX-License-Identifier: Apache-2.0
"""How the networks beside the stages are trained: those of `networks.two_stage.BESIDE`."""

from __future__ import annotations

from dataclasses import dataclass, field

from depth_two_stage.datasets.sensors import Sparse

__all__ = ["JointFilter", "Outliers", "Prior", "Registration"]


@dataclass(frozen=True)
class Outliers:
    """The network that tells wrong points (`networks.outliers`), of a model that has one.

    Points of ``sparse``, whose noise and shifts are no mistakes. Of all frames a share ``wrong``
    has some: a share in ``shares`` of its points, with depths off by a factor of 1 ± one in
    ``factors``, or, in half of these frames, uniform in ``depths`` (m).
    """

    epochs: int = 40
    batch: int = 8
    rate: float = 3e-3
    weight_decay: float = 1e-3
    schedule: str = "cosine"
    wrong: float = 0.6
    shares: tuple[float, float] = (0.01, 0.1)
    factors: tuple[float, float] = (0.15, 0.45)
    depths: tuple[float, float] = (0.5, 10.0)
    sparse: Sparse = field(default_factory=Sparse)


@dataclass(frozen=True)
class Registration:
    """The network that tells how far image and points are apart (`networks.registration`).

    Points of ``sparse``; in a share ``moved`` of the frames the image is moved by up to
    ``farthest`` px of the network's input.
    """

    epochs: int = 30
    batch: int = 8
    rate: float = 2e-3
    weight_decay: float = 1e-3
    schedule: str = "cosine"
    moved: float = 0.75
    farthest: float = 6.0
    sparse: Sparse = field(default_factory=Sparse)


@dataclass(frozen=True)
class Prior:
    """The network that tells depth by the image alone (`networks.prior`), of a model that has one.

    ``scale`` is its own range of views' scales: images of a room that are cut and enlarged are
    those of nearer things, of which data sets of rooms have few.
    """

    epochs: int = 200
    batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 2e-2
    schedule: str = "cosine"
    loss: str = "relative"
    scale: tuple[float, float] = (1.0, 1.5)


@dataclass(frozen=True)
class JointFilter:
    """The network that filters anchored depth (`networks.joint_filter`), of a model that has one.

    Points of ``sparse``; in a share ``offset`` of the frames the image lies beside them
    (``photometry.offset_px``).
    """

    epochs: int = 14
    batch: int = 8
    rate: float = 2e-3
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    offset: float = 0.1
    sparse: Sparse = field(default_factory=Sparse)
