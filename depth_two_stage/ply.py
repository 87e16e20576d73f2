# SPDX-License-Identifier: Apache-2.0
"""The PLY format, vectorised: what this package writes, and the clouds and meshes of others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


class PlyError(ValueError):
    """Content that is not PLY as we know it: "name: expected …, got …"."""


@dataclass(frozen=True)
class Ply:
    """Points (N, 3) m; colors uint8 (N, 3) RGB, triangles int32 (M, 3), normals (N, 3), or None."""

    points: np.ndarray
    colors: np.ndarray | None = None
    triangles: np.ndarray | None = None
    normals: np.ndarray | None = None


def encode(content: Ply) -> bytes:
    """Binary little-endian PLY: float32 coordinates, uchar colours, int triangle corners."""
    points = np.asarray(content.points)
    if points.ndim != 2 or points.shape[1] != 3:
        raise PlyError(f"points: expected shape (N, 3), got {points.shape}")
    columns = [(("x", "y", "z"), "float", "<f4", points)]
    if content.normals is not None:
        columns.append((("nx", "ny", "nz"), "float", "<f4", np.asarray(content.normals)))
    if content.colors is not None:
        colors = np.asarray(content.colors)
        if colors.dtype != np.uint8:
            raise PlyError(f"colors: expected uint8, got {colors.dtype}")
        columns.append((("red", "green", "blue"), "uchar", "u1", colors))
    for names, _, _, values in columns:
        if values.shape != points.shape:
            raise PlyError(f"{names[0]}…: expected shape {points.shape}, got {values.shape}")
    table = np.empty(len(points), [(n, code) for names, _, code, _ in columns for n in names])
    for names, _, _, values in columns:
        for i, name in enumerate(names):
            table[name] = values[:, i]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property {kind} {name}" for names, kind, _, _ in columns for name in names]
    faces = b""
    if content.triangles is not None:
        triangles = np.asarray(content.triangles).reshape(-1, 3)
        if triangles.size and not (triangles.min() >= 0 and triangles.max() < len(points)):
            raise PlyError(f"triangles: expected indices below {len(points)}, got others")
        rows = np.empty(len(triangles), [("n", "u1"), ("corners", "<i4", 3)])
        rows["n"], rows["corners"] = 3, triangles
        header += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
        faces = rows.tobytes()
    return "\n".join([*header, "end_header\n"]).encode() + table.tobytes() + faces


def decode(data: bytes) -> Ply:
    """PLY of any format: vertices with x y z, optional normals and colours, triangles."""
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise PlyError(f"expected a PLY header, got {data[:16]!r}")
    body = data[data.find(b"\n", end) + 1 :]
    order, elements = _header(data[:end].decode("ascii", "replace"))
    if order == "=":
        tables = _ascii_tables(body, elements)
    else:
        tables = _binary_tables(body, elements, order)
    vertex = tables.get("vertex")
    if vertex is None or not {"x", "y", "z"} <= set(vertex.dtype.names or ()):
        raise PlyError(f"vertex: expected properties x, y, z, got {sorted(tables)}")

    def joined(*names: str) -> np.ndarray | None:
        if not set(names) <= set(vertex.dtype.names):
            return None
        return np.stack([vertex[name] for name in names], axis=1)

    points, colors = joined("x", "y", "z"), joined("red", "green", "blue")
    if colors is not None and colors.dtype.kind == "f":
        colors = np.rint(np.clip(colors, 0, 1) * 255)
    triangles = None
    if "face" in tables and "corners" in (tables["face"].dtype.names or ()):
        triangles = tables["face"]["corners"].astype(np.int32).reshape(-1, 3)
    colors = None if colors is None else colors.astype(np.uint8)
    return Ply(points, colors, triangles, joined("nx", "ny", "nz"))


def _header(text: str) -> tuple[str, list[tuple[str, int, list[tuple[str, ...]]]]]:
    order, elements = None, []
    for words in (line.split() for line in text.splitlines()):
        try:
            if words[:1] == ["format"]:
                order = ORDERS[words[1]]
            elif words[:1] == ["element"]:
                elements.append((words[1], _count(words[2]), []))
            elif words[:2] == ["property", "list"]:
                elements[-1][2].append((words[4], TYPES[words[2]], TYPES[words[3]]))
            elif words[:1] == ["property"]:
                elements[-1][2].append((words[2], TYPES[words[1]]))
        except (KeyError, IndexError, ValueError) as error:
            raise PlyError(f"header: expected a PLY line, got {' '.join(words)!r}") from error
    if order is None:
        raise PlyError("header: expected a format line, got none")
    return order, elements


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _dtype(name: str, properties: list[tuple[str, ...]], order: str) -> np.dtype:
    fields = []
    for prop in properties:
        if len(prop) == 2:
            fields.append((prop[0], order + prop[1]))
        elif name == "face":  # triangles only, so that a list is a fixed field
            fields += [("n", order + prop[1]), ("corners", order + prop[2], 3)]
        else:
            raise PlyError(f"{name}: expected plain properties, got a list {prop[0]}")
    try:
        dtype = np.dtype(fields)
    except ValueError as error:
        raise PlyError(f"{name}: expected properties of different names, got {error}") from error
    if not dtype.itemsize:
        raise PlyError(f"{name}: expected properties, got none")
    return dtype


def _binary_tables(body: bytes, elements: list, order: str) -> dict[str, np.ndarray]:
    tables, start = {}, 0
    for name, count, properties in elements:
        dtype = _dtype(name, properties, order)
        have = (len(body) - start) // dtype.itemsize
        if have < count:
            raise PlyError(f"{name}: expected {count} entries, got {have}")
        tables[name] = _checked(name, np.frombuffer(body, dtype, count, start))
        start += count * dtype.itemsize
    return tables


def _ascii_tables(body: bytes, elements: list) -> dict[str, np.ndarray]:
    lines, tables, start = body.decode("ascii", "replace").splitlines(), {}, 0
    for name, count, properties in elements:
        dtype = _dtype(name, properties, "=")
        rows = lines[start : start + count]
        start += count
        try:
            values = np.array([row.split() for row in rows], np.float64)
        except ValueError as error:
            raise PlyError(f"{name}: expected rows of equal length, got {error}") from error
        width = sum(dtype[field].shape[0] if dtype[field].shape else 1 for field in dtype.names)
        if values.shape != (count, width) and count:
            raise PlyError(f"{name}: expected {(count, width)} numbers, got {values.shape}")
        table, column = np.zeros(count, dtype), 0
        for field in dtype.names if count else ():
            wide = dtype[field].shape[0] if dtype[field].shape else 1
            part = values[:, column : column + wide]
            with np.errstate(over="ignore", invalid="ignore"):
                table[field] = part if wide > 1 else part[:, 0]
            column += wide
        tables[name] = _checked(name, table)
    return tables


def _checked(name: str, table: np.ndarray) -> np.ndarray:
    if name == "face" and "n" in (table.dtype.names or ()) and np.any(table["n"] != 3):
        raise PlyError("face: expected triangles, got other polygons")
    return table
