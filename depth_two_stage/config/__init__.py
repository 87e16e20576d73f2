# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the nodes, declared once: default, help, limits.

From here come the ROS declarations, the command-line flags, ``config/default.yaml`` and the
README's table. Nested groups become dotted names (``lidar.max_age``), as in ROS. `depth_node` and
`mapping_node` declare, `declaring` says what a declaration is, `reading` takes values from files
and command lines, `writing` makes the files that show the defaults.
"""

from __future__ import annotations

from .declaring import (
    ConfigError,
    Parameter,
    check_ros_own,
    flatten,
    from_flat,
    reject_unknown,
    to_flat,
)
from .depth_node import (
    CloudParameters,
    DepthNodeParameters,
    EstimatorParameters,
    InputParameters,
    LidarParameters,
    OutputParameters,
    ScanParameters,
    WatchdogParameters,
)
from .forms import MAP_ENDINGS
from .mapping_node import (
    FusionParameters,
    GridParameters,
    MapParameters,
    MappingInputParameters,
    MappingNodeParameters,
    OdometryParameters,
    PoseParameters,
    SlamParameters,
    TsdfParameters,
)
from .nodes import NODES
from .reading import load_yaml, of_package, parse_value, read_yaml
from .surfels import SurfelParameters
from .writing import default_yaml, markdown_table

__all__ = [
    "MAP_ENDINGS",
    "NODES",
    "CloudParameters",
    "ConfigError",
    "DepthNodeParameters",
    "EstimatorParameters",
    "FusionParameters",
    "GridParameters",
    "InputParameters",
    "LidarParameters",
    "MapParameters",
    "MappingInputParameters",
    "MappingNodeParameters",
    "OdometryParameters",
    "OutputParameters",
    "Parameter",
    "PoseParameters",
    "ScanParameters",
    "SlamParameters",
    "SurfelParameters",
    "TsdfParameters",
    "WatchdogParameters",
    "check_ros_own",
    "default_yaml",
    "flatten",
    "from_flat",
    "load_yaml",
    "markdown_table",
    "of_package",
    "parse_value",
    "read_yaml",
    "reject_unknown",
    "to_flat",
]
