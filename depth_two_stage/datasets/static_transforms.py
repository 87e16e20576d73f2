# SPDX-License-Identifier: Apache-2.0
"""The rigid transforms of a bag's /tf_static, joined from frame to frame."""

from __future__ import annotations

from collections import deque

import numpy as np

from ..messages import to_transform
from .bag_messages import decoded
from .bag_reader import RawBag

TF_STATIC = "/tf_static"


class StaticTransforms:
    """``lookup(target, source)`` over what a bag says on /tf_static; stamps play no part."""

    def __init__(self, bag: RawBag) -> None:
        self._neighbours: dict[str, dict[str, np.ndarray]] = {}
        if TF_STATIC not in bag.topics:
            return
        for _, _, raw in bag.messages((TF_STATIC,)):
            message = decoded(raw, bag.topics[TF_STATIC].type, TF_STATIC)
            for item in message.transforms:
                parent, child = (
                    name.lstrip("/") for name in (item.header.frame_id, item.child_frame_id)
                )
                T_parent_child = to_transform(item)
                self._neighbours.setdefault(parent, {})[child] = T_parent_child
                self._neighbours.setdefault(child, {})[parent] = np.linalg.inv(T_parent_child)

    def lookup(self, target: str, source: str) -> np.ndarray | None:
        """T_target_source (4, 4); None if /tf_static does not join the two frames."""
        target, source = target.lstrip("/"), source.lstrip("/")
        reached, waiting = {target: np.eye(4)}, deque([target])
        while waiting and source not in reached:
            frame = waiting.popleft()
            for neighbour, T in self._neighbours.get(frame, {}).items():
                if neighbour not in reached:
                    reached[neighbour] = reached[frame] @ T
                    waiting.append(neighbour)
        return reached.get(source)


def frame_of(bag: RawBag, topic: str) -> str:
    """Frame of a topic's first message; empty if there is none."""
    for _, _, raw in bag.messages((topic,)):
        message = decoded(raw, bag.topics[topic].type, topic)
        return message.header.frame_id
    return ""
