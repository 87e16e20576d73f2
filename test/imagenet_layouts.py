# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of ImageNet files, written from torchvision's; small files of random weights."""

import torch


def norm(name, channels):
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias")} | {
        f"{name}.running_mean": (channels,),
        f"{name}.running_var": (channels,),
        f"{name}.num_batches_tracked": (),
    }


def resnet_layout(blocks, bottleneck):
    shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    cin = 64
    for stage, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=1):
        cout = 4 * width if bottleneck else width
        for block in range(count):
            at = f"layer{stage}.{block}"
            if bottleneck:
                kernels = ((width, cin, 1), (width, width, 3), (cout, width, 1))
            else:
                kernels = ((width, cin, 3), (width, width, 3))
            for number, (o, i, k) in enumerate(kernels, start=1):
                shapes[f"{at}.conv{number}.weight"] = (o, i, k, k)
                shapes |= norm(f"{at}.bn{number}", o)
            if block == 0 and cin != cout:
                shapes[f"{at}.downsample.0.weight"] = (cout, cin, 1, 1)
                shapes |= norm(f"{at}.downsample.1", cout)
            cin = cout
    return shapes | {"fc.weight": (1000, cin), "fc.bias": (1000,)}


def features(layers):
    shapes = {}
    for index, cin, cout, kernel in layers:
        shapes[f"features.{index}.weight"] = (cout, cin, kernel, kernel)
        shapes[f"features.{index}.bias"] = (cout,)
    return shapes


def vgg16_layout():
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    widths = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    shapes = features([(p, widths[i], widths[i + 1], 3) for i, p in enumerate(places)])
    for place in (0, 3, 6):  # the classifier's sizes do not matter: it is dropped
        shapes |= {f"classifier.{place}.weight": (2, 2), f"classifier.{place}.bias": (2,)}
    return shapes


def alexnet_layout(widths=(64, 192, 384, 256, 256)):
    kernels = ((0, 11), (3, 5), (6, 3), (8, 3), (10, 3))
    cins = (3, *widths)
    return features([(p, cins[i], widths[i], k) for i, (p, k) in enumerate(kernels)])


LAYOUTS = {
    "resnet18": (resnet_layout((2, 2, 2, 2), False), 122),
    "resnet50": (resnet_layout((3, 4, 6, 3), True), 320),
    "vgg16": (vgg16_layout(), 32),
}


def weights(shapes, seed=0):
    """A state dict of a layout: small random numbers, counters as torchvision's."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.tensor(7) if not shape else torch.rand(shape, generator=generator) * 0.1
        for name, shape in shapes.items()
    }


def without_classifier(state):
    return {n: v for n, v in state.items() if not n.startswith(("fc.", "classifier."))}


def same(module, state):
    mine = module.state_dict()
    return mine.keys() == state.keys() and all(torch.equal(mine[n], v) for n, v in state.items())


E_MODELS = [
    "resnet-upproj",
    "resnet-upproj-plain",
    "resnet-upconv",
    "resnet-deconv",
    "resnet-fc-64x48",
    "alexnet-upconv",
    "alexnet-fc",
    "vgg-upconv",
]
