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
class FusionParameters:
    """What a pixel of depth weighs in the map, and the scale of predicted depth."""

    confidence_power: float = parameter(
        2.0,
        "A pixel weighs its confidence to this power; 0: all weigh 1. More is stricter: surfaces "
        "that are never seen with confidence appear later.",
        low=0.0,
        high=16.0,
    )
    range_power: float = parameter(
        0.0,
        "A pixel beyond 1 m weighs 1 / range to this power as much; 0: as much as a near one.",
        low=0.0,
        high=4.0,
    )
    edge_jump: float = parameter(
        0.0,
        "Pixels beside a jump of depth by more than this share are left out; 0: none are.",
        low=0.0,
        high=10.0,
    )
    edge_width: float = parameter(
        0.005, "How far from the jump pixels are left out, share of the width.", low=0.0, high=0.1
    )
    scale_rate: float = parameter(
        0.0,
        "Largest change from frame to frame of the scale that fits depth to the map (share); "
        "0: depth is taken as it is.",
        low=0.0,
        high=0.5,
    )


@dataclass(frozen=True)
class PoseParameters:
    """Where poses come from and which frames they join."""

    source: str = parameter(
        "own",
        "The camera's pose: own odometry, TF, or a topic.",
        choices=("own", "tf", "odometry", "pose"),
    )
    map_frame: str = parameter(
        "map", "Frame of the map; a new one takes that of a topic's poses.", form=FRAME
    )
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

    load: str = parameter(
        "", "Map file (.npz) that is loaded at start and by the service load_map.", dynamic=True
    )
    save_on_exit: str = parameter(
        "",
        "What is written when the node stops, as save_path; empty: nothing.",
        form=MAP_FILE_OR_NONE,
    )
    save_path: str = parameter(
        "map.npz",
        "What the service save_map writes: .npz the map, .ply its mesh, .cloud.ply its points, "
        ".yaml a grid for map_server, .tum the trajectory.",
        form=MAP_FILE,
        dynamic=True,
    )
    autosave_period: float = parameter(
        0.0,
        "Time between saves of a map that changes, s; 0: none.",
        low=0.0,
        high=86400.0,
        dynamic=True,
    )
    autosave_path: str = parameter(
        "",
        "What is saved so, as save_path; empty: save_path itself.",
        form=MAP_FILE_OR_NONE,
        dynamic=True,
    )
    publish_period: float = parameter(
        2.0, "Time between published meshes, s.", low=0.1, high=3600.0, dynamic=True
    )


@dataclass(frozen=True)
class GridParameters:
    """The occupancy grid and the obstacles for navigation."""

    resolution: float = parameter(
        0.05, "Edge of a cell, m; at least tsdf.voxel_size.", low=0.005, high=10.0
    )
    floor: float = parameter(
        0.0,
        "Height of the floor in the map frame, m; below 0 where the map begins at a camera.",
        low=-1000.0,
        high=1000.0,
    )
    min_height: float = parameter(
        0.1,
        "Lowest obstacle above the floor, m: above the noise of the depth.",
        low=-100.0,
        high=100.0,
        below="max_height",
    )
    max_height: float = parameter(
        1.8,
        "Highest obstacle above the floor, m: what the robot passes under.",
        low=0.0,
        high=100.0,
    )
    min_points: int = parameter(
        1, "Surface points that make a cell occupied; more where depth is noisy.", low=1, high=1000
    )
    max_size: float = parameter(
        200.0, "Longest side of the grid, m, about where the map began.", low=1.0, high=2000.0
    )


@dataclass(frozen=True)
class MappingNodeParameters:
    """All parameters of mapping_node."""

    input: MappingInputParameters = group(MappingInputParameters)
    tsdf: TsdfParameters = group(TsdfParameters)
    odometry: OdometryParameters = group(OdometryParameters)
    slam: SlamParameters = group(SlamParameters)
    fusion: FusionParameters = group(FusionParameters)
    pose: PoseParameters = group(PoseParameters)
    map: MapParameters = group(MapParameters)
    grid: GridParameters = group(GridParameters)
