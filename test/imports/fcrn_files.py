# SPDX-License-Identifier: Apache-2.0
"""Files as E's program wrote them, of small networks: made here byte by byte.

Nothing of the importers is used: the writers follow the formats' own descriptions.
"""

import functools
import struct

import numpy as np

RESNET50 = (3, 4, 6, 3)


def fcrn_arrays(unit=4, seed=0):
    """Arrays {layer: {parameter: array}} of E's network, the first convolution ``unit`` wide."""
    rng = np.random.default_rng(seed)
    found = {}

    def convolution(name, kh, kw, cin, cout, bias=False):
        scale = np.sqrt(2 / (kh * kw * cin))
        found[name] = {"weights": (scale * rng.normal(size=(kh, kw, cin, cout))).astype("f4")}
        if bias:
            found[name]["biases"] = rng.normal(size=cout, scale=0.1).astype("f4")

    def norm(name, channels):
        found[name] = {
            "scale": rng.uniform(0.5, 1.5, channels).astype("f4"),
            "offset": rng.normal(size=channels, scale=0.2).astype("f4"),
            "mean": rng.normal(size=channels, scale=0.2).astype("f4"),
            "variance": rng.uniform(0.5, 1.5, channels).astype("f4"),
        }

    convolution("conv1", 7, 7, 3, unit, bias=True)
    norm("bn_conv1", unit)
    found["bn_conv1"]["variance"] *= 5e3  # of a convolution of 0…255
    cin = unit
    for stage, blocks in zip((2, 3, 4, 5), RESNET50, strict=True):
        mid = unit * 2 ** (stage - 2)
        for letter in "abcdef"[:blocks]:
            name = f"{stage}{letter}_branch"
            if letter == "a":
                convolution(f"res{name}1", 1, 1, cin, 4 * mid)
                norm(f"bn{name}1", 4 * mid)
            convolution(f"res{name}2a", 1, 1, cin, mid)
            convolution(f"res{name}2b", 3, 3, mid, mid)
            convolution(f"res{name}2c", 1, 1, mid, 4 * mid)
            for part, wide in (("2a", mid), ("2b", mid), ("2c", 4 * mid)):
                norm(f"bn{name}{part}", wide)
            found[f"bn{name}2c"]["scale"] *= 0.3  # so that sixteen blocks do not grow
            cin = 4 * mid
    convolution("layer1", 1, 1, cin, cin // 2, bias=True)
    norm("layer1_BN", cin // 2)
    wide = cin // 2
    for scale in ("2x", "4x", "8x", "16x"):
        layer = f"layer{scale}"
        for branch in ("br1", "br2"):
            for kernel, (kh, kw) in {"A": (3, 3), "B": (2, 3), "C": (3, 2), "D": (2, 2)}.items():
                convolution(f"{layer}_{branch}_Conv{kernel}", kh, kw, wide, wide // 2, bias=True)
            norm(f"{layer}_{branch}_BN", wide // 2)
        convolution(f"{layer}_Conv", 3, 3, wide // 2, wide // 2, bias=True)
        norm(f"{layer}_BN", wide // 2)
        wide //= 2
    convolution("ConvPred", 3, 3, wide, 1, bias=True)
    found["ConvPred"]["weights"] *= 0.1
    found["ConvPred"]["biases"] += 2
    return found


def flat(layers):
    """{layer: {parameter: array}} → {layer/parameter: array}."""
    return {f"{n}/{p}": a for n, parameters in layers.items() for p, a in parameters.items()}


def python2_npy(layers):
    """What NumPy of Python 2 wrote of a dict: a header, then a pickle of protocol 2."""

    def text(value):
        data = value if isinstance(value, bytes) else value.encode()
        short = len(data) < 256
        return (b"U" + bytes([len(data)]) if short else b"T" + struct.pack("<i", len(data))) + data

    def whole(value):
        return b"J" + struct.pack("<i", value)

    def dtype(name, order):
        made = b"cnumpy\ndtype\n(" + text(name) + whole(0) + whole(1) + b"tR"
        return (
            made + b"(" + whole(3) + text(order) + b"NNN" + whole(-1) + whole(-1) + whole(0) + b"tb"
        )

    def ndarray(shape, kind, content):
        made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n("
        made += whole(0) + b"t" + text("b") + b"tR"
        sizes = b"(" + b"".join(map(whole, shape)) + b"t"
        return made + b"(" + whole(1) + sizes + kind + b"\x89" + content + b"tb"

    body = b"}("
    for layer, parameters in layers.items():
        body += text(layer) + b"}("
        for name, value in parameters.items():
            body += text(name) + ndarray(value.shape, dtype("f4", "<"), text(value.tobytes()))
        body += b"u"
    body += b"u"
    header = b"{'descr': 'O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    return start + b"\x80\x02" + ndarray((), dtype("O8", "|"), b"](" + body + b"e") + b"."


# TensorFlow's tables ---------------------------------------------------------------------------


@functools.cache
def crc32c(data):
    """Bit by bit, as the polynomial says."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value):
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def message(*fields):
    """A protocol buffer: (number, int → varint, bytes → string, ("fixed32", int))."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        elif isinstance(value, tuple):
            out += varint(number << 3 | 5) + struct.pack("<I", value[1])
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def literal_snappy(data):
    """Snappy's format without a copy in it, but for one of the last bytes where they repeat."""
    out = varint(len(data))
    tail = len(data) >= 8 and data[-4:] == data[-8:-4]
    plain = data[:-4] if tail else data
    for start in range(0, len(plain), 60):
        piece = plain[start : start + 60]
        out += bytes([len(piece) - 1 << 2]) + piece
    return out + (bytes([1 | 0 << 2, 4]) if tail else b"")


def table(entries, per_block=5, snappy=False):
    """A LevelDB table of sorted (key, value) pairs: prefixes left out, restarts every third."""
    out, index = b"", []

    def block(pairs):
        nonlocal out
        body, restarts, last = b"", [], b""
        for position, (key, value) in enumerate(pairs):
            shared = 0
            if position % 3 == 0:
                restarts.append(len(body))
            else:
                while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                    shared += 1
            body += varint(shared) + varint(len(key) - shared) + varint(len(value))
            body += key[shared:] + value
            last = key
        body += b"".join(struct.pack("<I", at) for at in restarts or [0])
        body += struct.pack("<I", len(restarts or [0]))
        stored = literal_snappy(body) if snappy else body
        kind = bytes([int(snappy)])
        handle = varint(len(out)) + varint(len(stored))
        out += stored + kind + struct.pack("<I", masked(stored + kind))
        return handle

    entries = sorted(entries)
    for start in range(0, len(entries), per_block):
        pairs = entries[start : start + per_block]
        index.append((pairs[-1][0] + b"\0", block(pairs)))
    meta = block([])
    footer = meta + block(index)
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def shape_message(shape):
    return message(*((2, message((1, size))) for size in shape))


def write_bundle(prefix, arrays, snappy=False, shards=1):
    """A version 2 checkpoint: PREFIX.index, PREFIX.data-00000-of-00001 … and an empty .meta."""
    files = [b""] * shards
    entries = [(b"", message((1, shards), (3, message((1, 1)))))]
    for number, (name, value) in enumerate(sorted(arrays.items())):
        raw, shard = value.tobytes(), number % shards
        kind = {"f4": 1, "f8": 2, "i8": 9}[value.dtype.str[1:]]
        fields = [(1, kind), (2, shape_message(value.shape))]
        fields += [(3, shard)] * bool(shard)  # a zero is left out
        fields += [(4, len(files[shard]))] * bool(files[shard])
        fields += [(5, len(raw)), (6, ("fixed32", masked(raw)))]
        entries.append((name.encode(), message(*fields)))
        files[shard] += raw
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(entries, snappy=snappy))
    for shard, data in enumerate(files):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(data)
    prefix.with_name(f"{prefix.name}.meta").write_bytes(b"")


def write_old_checkpoint(path, arrays):
    """A version 1 checkpoint: one table, the tensors in its values."""
    meta, entries = [], []
    for name, value in sorted(arrays.items()):
        kind = {"f4": 1, "i4": 3}[value.dtype.str[1:]]
        extents = message(*((1, b"") for _ in value.shape))
        described = message((1, name.encode()), (2, shape_message(value.shape)), (3, kind))
        meta.append((1, described + message((4, extents))))
        numbers = message((5, value.tobytes())) if kind == 1 else message((7, varint(int(value))))
        saved = message((1, name.encode()), (2, extents), (3, numbers))
        entries.append((b"\0" + name.encode(), message((2, saved))))
    contents = message((1, message(*meta, (2, message((1, 1))))))
    path.write_bytes(table([(b"", contents), *entries]))
