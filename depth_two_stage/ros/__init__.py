# SPDX-License-Identifier: Apache-2.0
"""The only room that imports ROS: messages, parameters, transforms, the nodes and the doctor."""

import os

# OpenCV would write a line or two of its own for every damaged image; the nodes say it once.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
