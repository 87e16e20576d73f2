# SPDX-License-Identifier: Apache-2.0
"""Procedural rooms: scenes, camera paths, textures and the ray caster behind `rendered`."""
