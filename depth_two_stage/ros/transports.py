# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profile (shared memory large enough for images), used when the user has none."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from depth_two_stage import share_path

VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
HUMBLE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"  # later ones warn that it is deprecated


def use_profile(environment: MutableMapping[str, str] = os.environ) -> None:
    """Point Fast DDS to config/fastdds.xml; what the user has set stays.

    Call before `rclpy.init`. FASTDDS_BUILTIN_TRANSPORTS is never set: on one side alone it makes a
    node deaf.
    """
    if environment.get(VARIABLE) or environment.get(HUMBLE_VARIABLE):
        return
    humble = environment.get("ROS_DISTRO") == "humble"
    profile = share_path("config/fastdds.xml")
    if profile.is_file():
        environment[HUMBLE_VARIABLE if humble else VARIABLE] = str(profile)
