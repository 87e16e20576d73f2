# SPDX-License-Identifier: Apache-2.0
"""Every parameter of mapping_node."""

from __future__ import annotations

from dataclasses import dataclass

from .declaring import group, parameter
from .forms import FRAME, FRAME_OR_NONE, MAP_FILE, MAP_FILE_OR_NONE, POSE


@dataclass(frozen=True)
class TsdfParameters:
    """The map."""

    device: str = parameter("auto", "Where the map lives.", choices=("auto", "cuda", "cpu"))
    voxel_size: float = parameter(0.02, "Edge of a voxel, m.", low=0.001, high=1.0)
    truncation: float = parameter(4.0, "Truncation distance in voxels.", low=1.0, high=32.0)
    min_range: float = parameter(
        0.2, "Nearest fused depth, m.", low=0.0, high=100.0, below="max_range"
    )
    max_range: float = parameter(5.0, "Farthest fused depth, m.", low=0.1, high=200.0)
    memory_mb: float = parameter(
        512.0,
        "Bound of the map's blocks, MB, taken at once; the farthest blocks make room.",
        low=16.0,
        high=65536.0,
    )
    weight_threshold: float = parameter(
        0.5,
        "An extracted voxel weighs more than this, in frames of confidence 1.",
        low=0.0,
        high=100.0,
    )
    weight_cap: float = parameter(
        1000.0, "Largest weight of a voxel, in frames of confidence 1.", low=1.0, high=65535.0
    )


@dataclass(frozen=True)
class OdometryParameters:
    """Camera motion from the images."""

    reference: str = parameter(
        "keyframe", "What a frame is aligned with.", choices=("frame", "keyframe", "model")
    )
    method: str = parameter(
        "point_to_plane",
        "Residual that is minimised.",
        choices=("intensity", "hybrid", "point_to_plane"),
    )
    width: int = parameter(
        320, "Width to which images are reduced for tracking, px.", low=80, high=4096
    )
    max_range: float = parameter(5.0, "Farthest depth used for tracking, m.", low=0.1, high=200.0)
    min_fitness: float = parameter(
        0.8,
        "Least share of pixels that agree in depth, relative to what is usual.",
        low=0.0,
        high=1.0,
    )
    max_disagreement: float = parameter(
        0.05, "Largest distance between the motion forward and backward, m.", low=0.0, high=10.0
    )


@dataclass(frozen=True)
class SlamParameters:
    """Which frames are fused and which become keyframes."""

    keyframe_distance: float = parameter(
        0.3, "A new keyframe after so much translation, m.", low=0.01, high=100.0
    )
    keyframe_angle: float = parameter(
        20.0, "A new keyframe after so much rotation, degrees.", low=1.0, high=180.0
    )
    max_keyframes: int = parameter(60, "Keyframes that are kept for recovery.", low=1, high=10000)
    max_scale_residual: float = parameter(
        0.2, "Frames whose scale is off by more are not fused (share).", low=0.0, high=100.0
    )
    loop_closure: bool = parameter(
        True, "Correct keyframes and map when a place is seen again; own odometry only."
    )
    loop_shift: float = parameter(
        0.05, "Loops that move keyframes by less leave the map as it is, m.", low=0.0, high=10.0
    )
    loop_memory_mb: float = parameter(
        200.0,
        "Bound of the compressed frames from which a map is corrected, MB.",
        low=1.0,
        high=65536.0,
    )
    max_speed: float = parameter(
        50.0,
        "A given pose that is farther from the one given before is refused, m/s.",
        low=0.1,
        high=1000.0,
    )
    max_turn_rate: float = parameter(
        1000.0,
        "A given pose that is turned further from the one given before is refused, degrees/s.",
        low=1.0,
        high=100000.0,
    )


@dataclass(frozen=True)
class MappingInputParameters:
    """How depth images come in."""

    confidence: bool = parameter(
        True, "Weight depth by depth/confidence while that topic has a publisher."
    )
    reliability: str = parameter(
        "auto",
        "QoS reliability of the inputs; auto adopts the publisher's.",
        choices=("auto", "reliable", "best_effort"),
    )


@dataclass(frozen=True)
class PoseParameters:
    """Where poses come from and which frames they join."""

    source: str = parameter(
        "own",
        "The camera's pose: own odometry, TF, or a topic.",
        choices=("own", "tf", "odometry", "pose"),
    )
    map_frame: str = parameter("map", "Frame of the map.", form=FRAME)
    odom_frame: str = parameter("odom", "Frame of the odometry.", form=FRAME)
    base_frame: str = parameter(
        "",
        "Robot frame that odom carries; empty: the top of the camera's tree in TF, or camera_link.",
        form=FRAME_OR_NONE,
    )
    camera_extrinsics: list[float] = parameter(
        (), "T_base_camera (optical) as x y z (m) qx qy qz qw; empty: from TF.", form=POSE
    )
    timeout: float = parameter(
        0.1, "Wait for the pose at the image's stamp, s.", low=0.0, high=5.0, dynamic=True
    )
    max_gap: float = parameter(
        0.25,
        "Largest time between two poses that are interpolated, s.",
        low=0.0,
        high=10.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class MapParameters:
    """Publishing and keeping the map."""

    load: str = parameter("", "Map file that is loaded at start.")
    save_on_exit: str = parameter(
        "",
        "Map (.npz) or mesh (.ply) that is written when the node stops; empty: none.",
        form=MAP_FILE_OR_NONE,
    )
    save_path: str = parameter(
        "map.npz",
        "Map (.npz) or mesh (.ply) that the service save_map writes.",
        form=MAP_FILE,
        dynamic=True,
    )
    publish_period: float = parameter(
        2.0, "Time between published meshes, s.", low=0.1, high=3600.0, dynamic=True
    )


@dataclass(frozen=True)
class MappingNodeParameters:
    """All parameters of mapping_node."""

    input: MappingInputParameters = group(MappingInputParameters)
    tsdf: TsdfParameters = group(TsdfParameters)
    odometry: OdometryParameters = group(OdometryParameters)
    slam: SlamParameters = group(SlamParameters)
    pose: PoseParameters = group(PoseParameters)
    map: MapParameters = group(MapParameters)
