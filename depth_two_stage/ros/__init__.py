# SPDX-License-Identifier: Apache-2.0
"""The only room that imports ROS: messages, parameters, transforms, the nodes and the doctor."""
