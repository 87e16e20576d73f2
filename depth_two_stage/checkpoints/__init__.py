# SPDX-License-Identifier: Apache-2.0
"""The shipped weights: safetensors with a JSON file of the same name, read by `networks.load`."""
