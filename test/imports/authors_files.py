# SPDX-License-Identifier: Apache-2.0
"""Files as the authors' programs wrote them, of small networks: made here byte by byte or by torch.

Nothing of the importers is used: the writers follow the formats' own descriptions.
"""

import collections
import functools
import struct
import sys
import types
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


# E's released network --------------------------------------------------------------------------


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
    for stage, blocks in zip((2, 3, 4, 5), BLOCKS["resnet50"], strict=True):
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


# sparse-to-dense -------------------------------------------------------------------------------


@contextmanager
def authors_modules():
    """The modules whose classes the authors' files name: models, metrics, torchvision's ResNet."""
    names = ("models", "metrics", "torchvision", "torchvision.models", "torchvision.models.resnet")
    kept = {name: sys.modules.get(name) for name in names}
    made = {name: types.ModuleType(name) for name in names}
    sys.modules.update(made)

    def give(module, cls, name=None):
        cls.__module__ = module
        cls.__qualname__ = name or cls.__name__
        if name is None:
            setattr(made[module], cls.__name__, cls)
        return cls

    class Unpool(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.stride = 2
            self.weights = torch.zeros(channels, 1, 2, 2)  # no parameter and no buffer

    class Bottleneck(nn.Module):
        pass

    class BasicBlock(nn.Module):
        pass

    class UpProj(nn.Module):
        class UpProjModule(nn.Module):
            pass

    class UpConv(nn.Module):
        pass

    class DeConv(nn.Module):
        pass

    class ResNet(nn.Module):
        pass

    class Result:
        pass

    for cls in (Unpool, UpProj, UpConv, DeConv, ResNet):
        give("models", cls)
    give("models", UpProj.UpProjModule, "UpProj.UpProjModule")
    give("metrics", Result)
    for cls in (Bottleneck, BasicBlock):
        give("torchvision.models.resnet", cls)
    try:
        yield types.SimpleNamespace(
            **{cls.__name__: cls for cls in (Unpool, UpProj, UpConv, DeConv, ResNet, Result)},
            Bottleneck=Bottleneck,
            BasicBlock=BasicBlock,
        )
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def sparse_to_dense(classes, encoder="resnet50", decoder="upproj", cin=4, unit=4, seed=0):
    """A module as sparse-to-dense's ``models.ResNet`` is built, with random statistics."""
    torch.manual_seed(seed)
    net = classes.ResNet()
    net.conv1 = nn.Conv2d(cin, unit, 7, 2, 3, bias=False)
    net.bn1 = nn.BatchNorm2d(unit)
    net.relu, net.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
    wide = unit
    for number, blocks in enumerate(BLOCKS[encoder], start=1):
        mid, parts = unit * 2 ** (number - 1), []
        for index in range(blocks):
            stride = 2 if number > 1 and index == 0 else 1
            deep = encoder == "resnet50"
            block = classes.Bottleneck() if deep else classes.BasicBlock()
            out = 4 * mid if deep else mid
            forms = [(wide, mid, 1, 1), (mid, mid, 3, stride), (mid, out, 1, 1)]
            for place, (a, b, kernel, step) in enumerate(
                forms if deep else [(wide, mid, 3, stride), (mid, mid, 3, 1)], start=1
            ):
                convolution = nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False)
                setattr(block, f"conv{place}", convolution)
                setattr(block, f"bn{place}", nn.BatchNorm2d(b))
            block.relu, block.stride, block.downsample = nn.ReLU(inplace=True), stride, None
            if stride > 1 or wide != out:
                shortcut = nn.Conv2d(wide, out, 1, stride, bias=False)
                block.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out))
            parts.append(block)
            wide = out
        setattr(net, f"layer{number}", nn.Sequential(*parts))
    net.conv2 = nn.Conv2d(wide, wide // 2, 1, bias=False)
    net.bn2 = nn.BatchNorm2d(wide // 2)
    net.decoder = _decoder(classes, decoder, wide // 2)
    net.conv3 = nn.Conv2d(wide // 32, 1, 3, padding=1, bias=False)
    net.output_size = (228, 304)
    net.bilinear = nn.Upsample(size=(228, 304), mode="bilinear", align_corners=True)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    for module in net.modules():
        if isinstance(module, classes.Bottleneck | classes.BasicBlock):
            last = module.bn3 if isinstance(module, classes.Bottleneck) else module.bn2
            nn.init.uniform_(last.weight, 0.1, 0.4)  # so that sixteen blocks do not grow
    return net


def _decoder(classes, kind, wide):
    named = collections.OrderedDict
    whole = {"upproj": classes.UpProj, "upconv": classes.UpConv}.get(kind, classes.DeConv)()
    for number in range(1, 5):
        half = wide // 2
        if kind == "upproj":
            layer = classes.UpProj.UpProjModule()
            layer.unpool = classes.Unpool(wide)
            layer.upper_branch = nn.Sequential(
                named(
                    conv1=nn.Conv2d(wide, half, 5, padding=2, bias=False),
                    batchnorm1=nn.BatchNorm2d(half),
                    relu=nn.ReLU(),
                    conv2=nn.Conv2d(half, half, 3, padding=1, bias=False),
                    batchnorm2=nn.BatchNorm2d(half),
                )
            )
            layer.bottom_branch = nn.Sequential(
                named(
                    conv=nn.Conv2d(wide, half, 5, padding=2, bias=False),
                    batchnorm=nn.BatchNorm2d(half),
                )
            )
            layer.relu = nn.ReLU()
        elif kind == "upconv":
            layer = nn.Sequential(
                named(
                    unpool=classes.Unpool(wide),
                    conv=nn.Conv2d(wide, half, 5, padding=2, bias=False),
                    batchnorm=nn.BatchNorm2d(half),
                    relu=nn.ReLU(),
                )
            )
        else:
            kernel = int(kind[-1])
            up = nn.ConvTranspose2d(
                wide, half, kernel, 2, (kernel - 1) // 2, kernel % 2, bias=False
            )
            layer = nn.Sequential(
                named([(kind, up), ("batchnorm", nn.BatchNorm2d(half)), ("relu", nn.ReLU())])
            )
        setattr(whole, f"layer{number}", layer)
        wide = half
    return whole


def save_sparse_to_dense(path, model, classes, zipped=False, modality="rgbd"):
    """``save_checkpoint`` of sparse-to-dense: the whole module, its optimizer and results."""
    import argparse

    result = classes.Result()
    result.rmse, result.absrel, result.delta1 = 0.237, np.float64(0.048), 0.97
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    content = {
        "args": argparse.Namespace(arch="resnet50", modality=modality, lr=0.01, workers=10),
        "epoch": 14,
        "arch": "resnet50",
        "model": model,
        "best_result": result,
        "optimizer": optimizer,
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
