# SPDX-License-Identifier: Apache-2.0
"""Builds the package for pip and for colcon (ament_python); the one list of Python dependencies."""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "depth_two_stage"
ROOT = Path(__file__).resolve().parent
SHARE = f"share/{NAME}"
SHIPPED_FOLDERS = ("config", "launch", "rviz", "resource/bags")


def version() -> str:
    """The version that the package itself states, read without importing it."""
    text = (ROOT / NAME / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def data_files() -> list[tuple[str, list[str]]]:
    """What goes to share/: the ament marker, package.xml and the shipped folders as they are."""
    targets = {
        "share/ament_index/resource_index/packages": [f"resource/{NAME}"],
        SHARE: ["package.xml"],
    }
    for folder in SHIPPED_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT)
            # colcon knows one place a file: the ament marker keeps the one above.
            marker = name == Path("resource", NAME)
            if path.is_file() and not marker and "__pycache__" not in path.parts:
                targets.setdefault(f"{SHARE}/{name.parent.as_posix()}", []).append(name.as_posix())
    return sorted(targets.items())


OPENVINO = ["openvino>=2025.0"]
# Stage one from a Hugging Face folder; it reads the folder's files without Pillow or torchvision.
HUGGINGFACE = ["transformers>=4.57", "huggingface-hub>=0.34"]
ONNX = ["onnx>=1.16", "onnxruntime>=1.18"]
# ROS 2 from wheels, for machines where no ROS is sourced; never beside a sourced one.
ROS = [
    "ros-kilted-rclpy",
    "ros-kilted-rmw-fastrtps-cpp",
    "ros-kilted-sensor-msgs",
    "ros-kilted-geometry-msgs",
    "ros-kilted-nav-msgs",
    "ros-kilted-std-srvs",
    "ros-kilted-diagnostic-msgs",
    "ros-kilted-visualization-msgs",
    "ros-kilted-lifecycle-msgs",
]
TEST = ["pytest>=7.4", "pytest-xdist>=3.5", "evo>=1.28", "vermin>=1.6"]
LINT = ["ruff>=0.6"]

setup(
    name=NAME,
    version=version(),
    description="Metric depth, clouds and maps from a camera and a sparse LiDAR, for ROS 2",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    maintainer="depth_two_stage maintainers",
    maintainer_email="maintainers@depth-two-stage.example.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: ["py.typed"],
        f"{NAME}.checkpoints": ["*.safetensors", "*.json", "*.md"],
        f"{NAME}.recipes": ["*.yaml"],
        f"{NAME}.comparison": ["*.yaml", "figures/*.yaml"],
    },
    data_files=data_files(),
    zip_safe=False,
    install_requires=[
        "setuptools",
        "numpy>=1.21",
        "scipy>=1.8",
        "opencv-python-headless>=4.5.4",
        "h5py>=3.6",
        "PyYAML>=5.4",
        "matplotlib>=3.5",
        "torch>=2.2",
        "safetensors>=0.4",
        "open3d>=0.18",
        "rosbags>=0.11",
        "rosbags-image>=0.10",
        "typer>=0.12",
        "rich>=13.8",
    ],
    extras_require={
        "openvino": OPENVINO,
        "onnx": ONNX,
        "huggingface": HUGGINGFACE,
        "ros": ROS,
        "test": TEST,
        "lint": LINT,
    },
    entry_points={
        "console_scripts": [
            "depth-two-stage = depth_two_stage.cli:main",
            "depth_node = depth_two_stage.ros.executables:depth_node",
            "mapping_node = depth_two_stage.ros.executables:mapping_node",
            "replay = depth_two_stage.ros.executables:replay",
        ],
    },
)
