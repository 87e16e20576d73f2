# SPDX-License-Identifier: Apache-2.0
"""Quality of service: what a bag recorded as an offer, and what is on offer as recorded."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from ..datasets.bag_writer import offered_qos

DEPTH = 10


def offered(topic, reliable: bool = False) -> QoSProfile:
    """The profile with which a recorded topic (bag_reader.Topic) is published again.

    Reliability and durability as recorded; of several publishers the one that serves most
    subscribers; reliable and volatile where the bag says nothing, except the latched /tf_static.
    ``reliable`` overrides what was recorded: nothing may be lost.
    """
    reliabilities = {profile.reliability.name for profile in topic.qos}
    durabilities = {profile.durability.name for profile in topic.qos}
    depths = [p.depth for p in topic.qos if p.history.name == "KEEP_LAST" and p.depth > 0]
    best_effort = not reliable and bool(reliabilities) and reliabilities <= {"BEST_EFFORT"}
    latched = "TRANSIENT_LOCAL" in durabilities or topic.name == "/tf_static"
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=max([DEPTH, *depths]) if not latched else max([100, *depths]),
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def adopted(publishers: list, depth: int) -> QoSProfile:
    """The profile that hears every publisher (`get_publishers_info_by_topic`): the weakest."""
    profiles = [publisher.qos_profile for publisher in publishers]
    reliable = all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles)
    latched = all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def recorded(profile: QoSProfile):
    """The profile in the form in which `rosbags` writes it."""
    return offered_qos(profile.depth, profile.reliability.name, profile.durability.name)
