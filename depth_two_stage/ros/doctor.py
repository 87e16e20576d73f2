# SPDX-License-Identifier: Apache-2.0
"""Checks of the installation and of the link to the camera: `depth-two-stage doctor`.

Nothing is imported here that the doctor looks for: each package is tried in a process of its own,
because a broken one may end the process instead of raising.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import share_path
from .transports import HUMBLE_VARIABLE, VARIABLE

LIBRARIES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libGL.so.1": "libgl1",
    "libgomp.so.1": "libgomp1",
}
_IMPORT_TIMEOUT = 120.0  # s; the first import of torch from a cold disk is slow
_SHARED_MEMORY = 256  # MB; the profile takes 32 MB for each process, a container has 64 MB in all
_MESSAGES = ("sensor_msgs", "geometry_msgs", "nav_msgs", "std_srvs", "diagnostic_msgs")


@dataclass(frozen=True)
class Check:
    """One thing looked at; ``essential`` ones must be ``ok`` for the doctor to be content."""

    name: str
    ok: bool
    message: str
    essential: bool = True

    @property
    def state(self) -> str:
        """Ok, warning or failure, in one word."""
        return "ok" if self.ok else "failed" if self.essential else "warning"


def content(checks: list[Check]) -> bool:
    """Whether every essential check passed."""
    return all(check.ok for check in checks if check.essential)


def examine_installation() -> Iterator[Check]:
    """Look at everything that does not need a camera, one check after the other."""
    yield _python()
    yield from _system_libraries()
    yield _ros()
    yield _import_order()
    yield _optional("openvino", "import openvino", "networks run on torch instead, slower on a CPU")
    yield _optional("tf2_ros", "import tf2_ros", "LiDARs need lidar.extrinsics, poses a topic")
    yield _cv_bridge()
    yield _launch()
    yield _weights()
    yield from _transports()


def _try(code: str, python: str = sys.executable) -> tuple[bool, str]:
    """Run Python code in a process of its own: whether it went well, its last line."""
    try:
        done = subprocess.run(
            [python, "-c", code],
            capture_output=True,
            text=True,
            timeout=_IMPORT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode < 0:
        return False, f"crashed with signal {-done.returncode}"
    return done.returncode == 0, said[-1] if said else ""


def _python() -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    return Check("python", sys.version_info >= (3, 10), f"{found} at {sys.executable}")


def _system_libraries() -> Iterator[Check]:
    for library, package in LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            yield Check(library, False, f"not found; Open3D needs it: apt install {package}")
        else:
            yield Check(library, True, "found")


def _ros() -> Check:
    """Check that rclpy, its middleware and the message packages work: a node can be made."""
    code = (
        f"import rclpy, {', '.join(_MESSAGES)}\n"
        "rclpy.init(); rclpy.create_node('depth_doctor_try')\n"
        "print(rclpy.get_rmw_implementation_identifier()); rclpy.try_shutdown()"
    )
    ok, said = _try(code)
    if ok:
        return Check("ros", True, f"{os.environ.get('ROS_DISTRO', 'from wheels')}, {said}")
    return Check("ros", False, f"{said}; source ROS 2, or install the extra `ros`")


def _import_order() -> Check:
    ok, said = _try("import rclpy, torch, open3d; print(torch.__version__, open3d.__version__)")
    if ok:
        return Check("rclpy, torch, open3d", True, f"import together: torch and Open3D {said}")
    return Check("rclpy, torch, open3d", False, f"do not import in this order: {said}")


def _optional(name: str, code: str, without: str) -> Check:
    ok, said = _try(code)
    return Check(name, ok, "found" if ok else f"{without} ({said})", essential=False)


def _cv_bridge() -> Check:
    """Try cv_bridge where there is one: NumPy 2 breaks those that were built for NumPy 1."""
    ok, said = _try("import cv_bridge")
    if ok:
        message = "found"
    elif "No module named 'cv_bridge'" in said:
        ok, message = True, "not installed and not needed: rosbags-image stands in"
    else:
        message = f"does not import: {said} (built for another NumPy?); rosbags-image stands in"
    return Check("cv_bridge", ok, message, essential=False)


def _launch() -> Check:
    """Whether `ros2 launch` would start our nodes with a Python that has their packages."""
    name = "ros2 launch"
    if shutil.which("ros2") is None:
        return Check(
            name, True, "ros2 is not on PATH: start with depth-two-stage live", essential=False
        )
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        script = Path(prefix or "/nowhere") / "lib" / "depth_two_stage" / "depth_node"
        if script.is_file():
            break
    else:
        message = "this package is in no prefix of AMENT_PREFIX_PATH: build with colcon, source it"
        return Check(name, False, message, essential=False)
    first = script.read_bytes().split(b"\n", 1)[0].decode(errors="replace")
    python = first.removeprefix("#!").strip().split(" ")[-1]
    python = shutil.which(python) or python
    ok, said = _try("import rclpy, torch, open3d", python)
    if ok:
        return Check(name, True, f"{script} runs with {python}", essential=False)
    return Check(
        name,
        False,
        f"{script} runs with {python}, which lacks packages ({said}): install them there, or build "
        "with the virtual environment's Python (python -m colcon build)",
        essential=False,
    )


def _weights() -> Check:
    code = (
        "from depth_two_stage import networks\n"
        "model, checkpoint = networks.load('default')\n"
        "print(checkpoint.name, checkpoint.checksum)"
    )
    ok, said = _try(code)
    return Check("weights", ok, said if ok else f"the shipped weights do not load: {said}")


_DISCOVERY = (
    "RMW_IMPLEMENTATION",
    "ROS_DOMAIN_ID",
    "ROS_AUTOMATIC_DISCOVERY_RANGE",
    "ROS_LOCALHOST_ONLY",
)


def _transports() -> Iterator[Check]:
    found = [f"{name}={os.environ[name]}" for name in _DISCOVERY if os.environ.get(name)]
    message = f"{', '.join(found) or 'all at default'} (the camera's side must agree)"
    yield Check("discovery", True, message, essential=False)
    if os.environ.get("FASTDDS_BUILTIN_TRANSPORTS"):
        message = (
            f"FASTDDS_BUILTIN_TRANSPORTS={os.environ['FASTDDS_BUILTIN_TRANSPORTS']}: a node without"
            " the same setting neither hears nor sees this one"
        )
        yield Check("transports", False, message, essential=False)
    profile = os.environ.get(VARIABLE) or os.environ.get(HUMBLE_VARIABLE)
    path = Path(profile) if profile else share_path("config/fastdds.xml")
    origin = "the environment's" if profile else "shipped, set by live and the launch files"
    try:
        ElementTree.parse(path)
    except (OSError, ElementTree.ParseError) as error:
        yield Check("Fast DDS profile", False, f"{path}: {error}")
    else:
        yield Check("Fast DDS profile", True, f"{path} ({origin})")
    if Path("/dev/shm").is_dir():
        free = shutil.disk_usage("/dev/shm").free // 2**20
        message = f"{free} MB free in /dev/shm"
        if free < _SHARED_MEMORY:
            message += f", less than {_SHARED_MEMORY} MB: images may be lost (docker: --shm-size)"
        yield Check("shared memory", free >= _SHARED_MEMORY, message, essential=False)
