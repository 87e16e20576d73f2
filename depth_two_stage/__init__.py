# SPDX-License-Identifier: Apache-2.0
"""Metric depth, clouds and maps from a camera and, when there is one, a sparse LiDAR.

Import order: where torch and Open3D meet in one process, torch is imported first (each brings
its own OpenMP and C++ runtime, and the other order has crashed). Both are heavy, so they are
imported where they are used and never by this file.
"""

from pathlib import Path

__version__ = "0.1.0"


def share_path(relative: str = "") -> Path:
    """Path of a file shipped beside the code (config/, launch/, rviz/, resource/), absolute.

    The same relative names hold in a source checkout, in a virtual environment, under /usr/local
    and in a colcon install folder: the first folder upwards that holds this package's
    package.xml, or whose share/depth_two_stage does, is the one.
    """
    for folder in Path(__file__).resolve().parents:
        for root in (folder, folder / "share" / "depth_two_stage"):
            if (root / "package.xml").is_file() and (root / "config").is_dir():
                return root / relative
    raise FileNotFoundError(
        "share/depth_two_stage: expected beside the installed package, got none; reinstall it"
    )
