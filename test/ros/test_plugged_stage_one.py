# SPDX-License-Identifier: Apache-2.0
"""depth_node behind a Hugging Face depth model: `plug` makes its weights, the node runs them."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("transformers", reason="the extra huggingface is not installed")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import huggingface
import rig
import sensors
from rig import PATIENCE, Process, Rig
from sensors import TestCamera

from depth_two_stage import cli, runtimes
from depth_two_stage.camera import Camera
from depth_two_stage.estimator import DepthEstimator

DEPTH = "depth/image_rect"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder in the real format → a weights file, as a user makes it."""
    root = tmp_path_factory.mktemp("plugged")
    folder = huggingface.write(root / "model", "depth_anything")
    with pytest.raises(SystemExit) as ended:
        cli.main(["plug", f"hf:{folder}", "-o", str(root / "anything.safetensors")])
    assert ended.value.code == 0
    return root / "anything.safetensors"


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_the_node_publishes_its_depth(engine, weights, free_domain, tmp_path):
    domain = free_domain()
    values = rig.parameters(weights, **{"estimator.engine": engine, "estimator.precision": "fp32"})
    process = Process("depth_two_stage.ros.depth_node", tmp_path, domain, "--ros-args", *values)
    other = Rig(domain)
    try:
        camera = TestCamera(other)
        assert other.until(lambda: "model" in other.values, 3 * PATIENCE), process.text()
        camera.connect()
        camera.reach(DEPTH)
        message = other.heard[DEPTH][-1]
        assert other.values["model"].startswith("anything")
    finally:
        assert process.end() == 0, process.text()
        other.close()
    text = process.text()
    assert "Warning" not in text and "Traceback" not in text and "transformers" not in text, text
    if engine == "auto" and "openvino" in runtimes.installed():
        assert "openvino" in text, text
    # The same numbers as the estimator's own: the node adds nothing.
    estimator = DepthEstimator(str(weights), "cpu", "fp32", "torch", 1)
    height, width = sensors.SIZE
    found = sensors.image_values(message)
    own = estimator(
        sensors.texture(),
        None,
        Camera(width, height, 70.0, 70.0, width / 2 - 0.5, height / 2 - 0.5),
    ).depth
    assert found.shape == own.shape == sensors.SIZE and own.std() > 0.05
    np.testing.assert_allclose(np.nan_to_num(found), own, rtol=1e-3, atol=1e-3)
