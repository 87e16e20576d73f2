# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the node tests: tiny weights, and one depth_node that many tests share."""

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A checkpoint that answers the filled points, or 2.8 m: small enough to be instant."""
    rig = pytest.importorskip("rig", reason="rclpy is not installed")
    return rig.tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def depth_node(tiny, free_domain, tmp_path_factory):
    """A running depth_node (`.process`) and the other side of its topics (`.rig`)."""
    from types import SimpleNamespace

    import rig

    domain = free_domain()
    process = rig.Process(
        "depth_two_stage.ros.depth_node",
        tmp_path_factory.mktemp("log"),
        domain,
        "--ros-args",
        *rig.parameters(tiny),
    )
    other = rig.Rig(domain)
    try:
        loaded = other.until(lambda: "model" in other.values, 3 * rig.PATIENCE)
        assert loaded, process.text()
        yield SimpleNamespace(process=process, rig=other, domain=domain)
    finally:
        process.end()
        other.close()


@pytest.fixture
def camera(depth_node):
    """A raw, reliable camera that the shared depth_node reads."""
    import sensors

    made = sensors.TestCamera(depth_node.rig)
    made.connect()
    yield made
    depth_node.rig.ignore()
    made.close()


@pytest.fixture
def rig(ros_domain, ros_env):
    """A node of the test's own, in the test's domain."""
    from rig import Rig  # needs ROS

    made = Rig(ros_domain)
    yield made
    made.close()
