# SPDX-License-Identifier: Apache-2.0
"""Files as sparse-to-dense's program wrote them, of small networks: made here by torch.

Nothing of the importers is used: the classes follow the authors' names and layout.
"""

import collections
import sys
import types
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


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
