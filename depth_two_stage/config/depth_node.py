# SPDX-License-Identifier: Apache-2.0
"""Every parameter of depth_node."""

from __future__ import annotations

from dataclasses import dataclass

from .declaring import group, parameter
from .forms import FRAME_OR_NONE, POSE


@dataclass(frozen=True)
class EstimatorParameters:
    """Which network runs, on what, and how its answer is tied to the points."""

    weights: str = parameter("default", "Name of shipped weights, or a checkpoint file.")
    device: str = parameter("auto", "Where the network runs.", choices=("auto", "cuda", "cpu"))
    engine: str = parameter(
        "auto",
        "What executes the network; auto is OpenVINO on the CPU when installed, else torch.",
        choices=("auto", "torch", "openvino", "onnxruntime"),
    )
    precision: str = parameter(
        "auto", "Arithmetic of the network.", choices=("auto", "fp32", "fp16", "bf16")
    )
    threads: int = parameter(0, "Threads of the engine; 0 is all cores but one.", low=0, high=256)
    anchor: str = parameter(
        "residual",
        "How the depth is tied to the points: not, by one scale, or by the interpolated error.",
        choices=("none", "scale", "residual"),
        dynamic=True,
    )
    register: bool = parameter(
        True,
        "An image some pixels beside its points is brought to them, where 800 or more tell.",
        dynamic=True,
    )
    prior: bool = parameter(
        True,
        "With fewer than 128 points, or none, the image tells what depth to expect (indoors).",
        dynamic=True,
    )
    joint_filter: bool = parameter(
        True,
        "Depth anchored (residual) to 800 to 2,800 points is filtered by what the image shows.",
        dynamic=True,
    )


@dataclass(frozen=True)
class InputParameters:
    """How images come in."""

    transport: str = parameter(
        "auto",
        "Which image topic is read; auto takes the one that has a publisher.",
        choices=("auto", "raw", "compressed"),
        dynamic=True,
    )
    rectified: bool = parameter(
        False, "The image is rectified already: D and R are not applied.", dynamic=True
    )
    reliability: str = parameter(
        "auto",
        "QoS reliability of the inputs; auto adopts the publisher's.",
        choices=("auto", "reliable", "best_effort"),
        dynamic=True,
    )


@dataclass(frozen=True)
class LidarParameters:
    """How LiDAR points reach the image."""

    max_age: float = parameter(
        0.2,
        "Largest distance in time of a cloud from its image, s.",
        low=0.0,
        high=10.0,
        dynamic=True,
    )
    time_offset: float = parameter(
        0.0, "Added to the stamps of the clouds, s.", low=-10.0, high=10.0, dynamic=True
    )
    extrinsics: list[float] = parameter(
        (),
        "T_camera_lidar as x y z (m) qx qy qz qw; empty: from TF.",
        form=POSE,
        dynamic=True,
    )
    fixed_frame: str = parameter(
        "odom",
        "Frame that stands still; if TF knows it, points move to the image's stamp. Empty: no.",
        form=FRAME_OR_NONE,
        dynamic=True,
    )
    tf_timeout: float = parameter(
        0.05, "Wait for a transform at the image's stamp, s.", low=0.0, high=5.0, dynamic=True
    )


@dataclass(frozen=True)
class OutputParameters:
    """How depth goes out."""

    encoding: str = parameter(
        "32FC1",
        "Depth in metres (32FC1) or millimetres (16UC1).",
        choices=("32FC1", "16UC1"),
        dynamic=True,
    )
    scale: float = parameter(
        1.0,
        "Size of the depth and of image_rect, as a part of the image's.",
        low=0.05,
        high=1.0,
        dynamic=True,
    )
    max_latency: float = parameter(
        2.0,
        "Depth older than this (node's clock) is not published, s; 0: no limit.",
        low=0.0,
        high=60.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class CloudParameters:
    """The published cloud."""

    step: int = parameter(
        2, "Every n-th pixel of each row and column.", low=1, high=64, dynamic=True
    )
    min_range: float = parameter(
        0.1, "Nearest depth, m.", low=0.0, high=1000.0, below="max_range", dynamic=True
    )
    max_range: float = parameter(20.0, "Farthest depth, m.", low=0.0, high=1000.0, dynamic=True)
    organized: bool = parameter(
        False, "Keep the image's rows and columns, NaN where there is no depth.", dynamic=True
    )
    edge_jump: float = parameter(
        0.05,
        "Relative depth step beside which pixels are removed; 0 keeps all.",
        low=0.0,
        high=1.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class ScanParameters:
    """The published LaserScan."""

    min_height: float = parameter(
        -0.05,
        "Lowest surface in it, m above the camera (which has to be level).",
        low=-100.0,
        high=100.0,
        below="max_height",
        dynamic=True,
    )
    max_height: float = parameter(
        0.05, "Highest surface in it, m above the camera.", low=-100.0, high=100.0, dynamic=True
    )
    min_range: float = parameter(
        0.3,
        "Nearest range, m; nearer is -inf.",
        low=0.0,
        high=1000.0,
        below="max_range",
        dynamic=True,
    )
    max_range: float = parameter(
        10.0, "Farthest range, m; farther is inf.", low=0.0, high=1000.0, dynamic=True
    )
    frame: str = parameter(
        "",
        "Its frame, at the camera, x forward, z up; empty: the image's with _scan, sent to TF.",
        form=FRAME_OR_NONE,
        dynamic=True,
    )


@dataclass(frozen=True)
class WatchdogParameters:
    """What the node says when nothing appears."""

    period: float = parameter(
        5.0,
        "Time without output after which the missing link is named, s; 0: never.",
        low=0.0,
        high=3600.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class DepthNodeParameters:
    """All parameters of depth_node."""

    estimator: EstimatorParameters = group(EstimatorParameters)
    input: InputParameters = group(InputParameters)
    lidar: LidarParameters = group(LidarParameters)
    output: OutputParameters = group(OutputParameters)
    cloud: CloudParameters = group(CloudParameters)
    scan: ScanParameters = group(ScanParameters)
    watchdog: WatchdogParameters = group(WatchdogParameters)
