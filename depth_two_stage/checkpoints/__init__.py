# SPDX-License-Identifier: Apache-2.0
"""The shipped weights, and importers of public ones.

Shipped: safetensors with a JSON file of the same name, read by `networks.load`. Importers: what a
file holds (`npy`, `tensorflow_checkpoint`, `torch_file`, on `restricted`), which layout that is
(`reading`), whose tensor of ours each of its is (`layouts`), and the way to a checkpoint
(`importing`).
"""
