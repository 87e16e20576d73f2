# SPDX-License-Identifier: Apache-2.0
"""Which nodes there are."""

from __future__ import annotations

from .depth_node import DepthNodeParameters
from .mapping_node import MappingNodeParameters

NODES: dict[str, type] = {
    "depth_node": DepthNodeParameters,
    "mapping_node": MappingNodeParameters,
}
