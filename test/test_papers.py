# SPDX-License-Identifier: Apache-2.0
"""The networks against what the papers print: counts, layers, sizes, receptive fields."""

import numpy as np
import pytest
import torch
from torch import nn

from depth_two_stage import networks
from depth_two_stage.networks import blocks, encoders, forms, inputs


def count(module, kind=nn.Module, biases=True):
    return sum(
        p.numel()
        for part in module.modules()
        if isinstance(part, kind)
        for p in part.parameters(recurse=False)
        if biases or p.ndim > 1
    )


def meta(name):
    with torch.device("meta"):
        return networks.build(name)


def of_kind(module, kind):
    return [part for part in module.modules() if isinstance(part, kind)]


# --- E -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "millions", "tolerance"),
    [
        ("alexnet-fc", 104.4, 0.01),
        ("alexnet-upconv", 6.3, 0.01),
        ("vgg-upconv", 18.5, 0.05),  # no natural reading meets it
        ("resnet-fc-160x128", 359.1, 0.01),
        ("resnet-fc-64x48", 73.9, 0.01),
        ("resnet-deconv", 28.5, 0.01),
        ("resnet-upconv", 43.1, 0.01),
        ("resnet-upproj", 63.6, 0.01),
        ("resnet-upproj-plain", 63.6, 0.01),
    ],
)
def test_counts_of_e_table_1(name, millions, tolerance):
    assert count(meta(name)) == pytest.approx(millions * 1e6, rel=tolerance)


@pytest.mark.parametrize("decoder", ["fc", "deconv", "upconv", "upproj"])
@pytest.mark.parametrize(
    ("encoder", "size"),
    [
        ("alexnet", (96, 128)),
        ("vgg16", (112, 144)),
        ("resnet18", (128, 160)),
        ("resnet50", (128, 160)),
    ],
)
def test_every_encoder_goes_with_every_decoder(encoder, size, decoder):
    x = torch.empty(2, 3, 228, 304, device="meta")
    with torch.device("meta"):
        if decoder == "fc":
            model = networks.FullyConnected(encoder, width=0.25, output_size=size)
            assert model(x).shape == (2, 1, *size)
            return
        fast, plain = (networks.FCRN(encoder, 3, decoder, 0.25, fast=fast) for fast in (1, 0))
    assert fast(x).shape == plain(x).shape == (2, 1, *size)
    assert count(fast) == count(plain)


@pytest.mark.parametrize("side", blocks.SIDES)
def test_fast_and_plain_up_convolution_are_one_on_both_sides(side):
    torch.manual_seed(0)
    plain = blocks.PlainUp(5, 7, side)
    fast = forms.to_fast(plain)
    x = torch.randn(2, 5, 9, 6)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), plain(x), rtol=0, atol=1e-5)
    again = forms.to_plain(fast)
    assert torch.equal(again.conv.weight, plain.conv.weight) and again.side == fast.side == side


def test_a_whole_network_changes_its_form():
    torch.manual_seed(0)
    spec = networks.architecture("resnet-upproj-plain", 1 / 8)
    plain = networks.build(spec).eval()
    nn.init.normal_(plain.stage_one.predict.weight)
    fast = forms.convert(plain, fast=True)
    assert len(of_kind(fast, blocks.FastUp)) == 8 and not of_kind(fast, blocks.PlainUp)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = plain(x)[0]
        tolerance = 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(fast(x)[0], expected, rtol=0, atol=tolerance)
    there = forms.convert_state(plain.state_dict(), fast=True)
    assert there.keys() == fast.state_dict().keys()
    back = forms.convert_state(there, fast=False)
    for state in (back, forms.convert(fast, fast=False).state_dict()):
        assert state.keys() == plain.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())


def test_wrong_forms_are_refused():
    with pytest.raises(ValueError, match="side: expected one of"):
        blocks.PlainUp(1, 1, "left")
    with pytest.raises(ValueError, match="filling: expected one of"):
        blocks.PlainUp(1, 1, filling="ones")
    with pytest.raises(ValueError, match="fast: expected False"):
        blocks.UpProj(1, 1, filling="average")
    with pytest.raises(ValueError, match="filling: expected 'zeros'"):
        forms.to_fast(blocks.PlainUp(1, 1, filling="average"))


def test_vgg_takes_torchvisions_names():
    source = encoders.encoder("vgg16", 3, 1 / 16)
    state = source.state_dict() | {"classifier.0.weight": torch.zeros(1)}
    assert {"features.0.weight", "features.28.bias"} <= state.keys()
    target = encoders.encoder("vgg16", 4, 1 / 16)
    encoders.load_imagenet(target, state)
    stem = target.features[0].weight
    torch.testing.assert_close(stem[:, 3], source.features[0].weight.mean(1))


# --- A and B -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("two-stage-rgbd", [64, 128, 256, 512, 1]),
        ("two-stage-rgb", [32, 64, 128, 256, 1]),
        ("two-stage-rgb-make3d", [1, 1, 1, 1, 1]),
        ("single-cgan-rgb", [32, 64, 128, 256, 1]),
    ],
)
def test_discriminators_have_the_papers_widths_and_see_70_pixels(name, widths):
    spec = networks.architecture(name)
    judge = networks.build_discriminator(spec).eval()
    layers = of_kind(judge, nn.Conv2d)
    assert [layer.out_channels for layer in layers] == widths
    for layer in layers:  # no chance cancellation
        nn.init.constant_(layer.weight, 0.01)
    condition = torch.randn(1, 3 if "single" in name else 1, 160, 160, requires_grad=True)
    depth = torch.randn(1, 1, 160, 160, requires_grad=True)
    judge(condition, depth)[0, 0, 9, 9].backward()
    for seen in (condition.grad[0].sum(0).nonzero(), depth.grad[0, 0].nonzero()):
        assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [70, 70]


@pytest.mark.parametrize(
    ("name", "encoder", "joined"),
    [
        (
            "two-stage-rgb",
            [256, 256, 512, 512, 512, 256, 256, 256],
            [512, 384, 576, 513, 513, 257, 257],
        ),
        (
            "two-stage-rgb-make3d",
            [256, 512, 512, 512, 512, 256, 256, 256],
            [384, 320, 578, 513, 513, 513, 257],
        ),
    ],
)
def test_u_net_has_the_channels_that_b_lists(name, encoder, joined):
    unet = meta(name).stage_two
    assert [layer[0].out_channels for layer in unet.down] == encoder
    # What B lists is what enters the next layer: the filters and the skip.
    assert [layer[0].in_channels for layer in unet.up[1:]] + [unet.out.in_channels] == joined
    assert all(layer[0].kernel_size == (3, 3) and layer[0].stride == (2, 2) for layer in unet.up)
    assert [bool(of_kind(layer, nn.Dropout)) for layer in unet.up] == [True] * 3 + [False] * 4
    normed = [bool(of_kind(layer, nn.BatchNorm2d)) for layer in unet.down]
    assert normed == [False] + [True] * 6 + [False]


def test_u_net_goes_down_to_one_pixel_and_takes_batch_1():
    unet = networks.UNetGenerator((4,) * 8, (4,) * 7).train()
    seen = []
    unet.down[-1].register_forward_hook(lambda m, i, o: seen.append(o.shape[2:]))
    assert unet(torch.randn(1, 1, 256, 256)).shape == (1, 1, 256, 256)
    assert unet.eval()(torch.randn(1, 1, 100, 77)).shape == (1, 1, 100, 77)
    assert seen[0] == (1, 1)
    with pytest.raises(ValueError, match="filters: expected 7"):
        networks.UNetGenerator((4,) * 8, (4,) * 8)


def test_three_stages_follow_each_other():
    model = networks.build(networks.architecture("three-stage-rgb", 1 / 16)).eval()
    for stage in (model.stage_two, model.stage_three):
        nn.init.normal_(stage.out.weight)
    with torch.no_grad():
        coarse, refined = model(torch.randn(1, 3, 64, 96))
        second = model.refine(coarse, ("stage_two",))
        assert torch.equal(model.refine(second, ("stage_three",)), refined)
    assert not torch.equal(second, refined) and not torch.equal(second, coarse)


def test_a_single_cgan_sees_the_image():
    model = networks.build(networks.architecture("single-cgan-rgb", 1 / 16)).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        coarse, refined = model(x)
        assert model.condition(x).shape == (1, 3, 256, 256)
        assert torch.equal(model.metres(model.stage_two(model.condition(x))), refined)
    assert coarse is refined and refined.min() >= 0 and refined.max() <= 10
    for spec in ({"stage_one": None}, {"stage_one": {"name": "cnn"}, "stage_three": {"name": "c"}}):
        with pytest.raises(ValueError, match="expected"):
            networks.build(spec)


# --- C -------------------------------------------------------------------------------------------


def test_cnn_fc_has_cs_counts_and_size():
    model = meta("cnn-fc").stage_one
    assert count(model, nn.Linear, biases=False) == 73_293_824 == 4096 * (13_824 + 4_070)
    assert count(model, nn.Conv2d, biases=False) == 27_232
    assert [layer.kernel_size[0] for layer in of_kind(model, nn.Conv2d)] == [11, 5, 3, 3, 3, 3]
    assert model(torch.empty(2, 3, 228, 304, device="meta")).shape == (2, 1, 55, 74)


@pytest.mark.parametrize(("name", "size"), [("cnn", (57, 76)), ("cnn-transpose", (56, 76))])
def test_cnn_has_eight_layers(name, size):
    model = meta(name).stage_one
    layers = of_kind(model, nn.Conv2d | nn.ConvTranspose2d)
    assert [layer.kernel_size for layer in layers] == [(3, 3)] * 8
    assert isinstance(layers[-1], nn.ConvTranspose2d) == (name == "cnn-transpose")
    assert model(torch.empty(2, 3, 228, 304, device="meta")).shape == (2, 1, *size)


def test_average_unpooling_fills_the_gaps():
    x = torch.tensor([[[[1.0, 3.0], [5.0, 11.0]]]])
    assert blocks.unpool(x, "average")[0, 0].tolist() == [
        [1, 2, 3, 3],
        [3, 5, 7, 7],
        [5, 8, 11, 11],
        [5, 8, 11, 11],
    ]


# --- D -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "size", "convolutions"),
    [
        ("AH", (10, 37), 9),
        ("C", (10, 37), 5),
        ("SC", (10, 37), 10),  # two a block, the first block's 1×1, the last
        ("SCRX", (10, 37), 13),
        ("SCRXU", (20, 74), 19),
        ("SCRDU", (19, 74), 19),
    ],
)
def test_networks_of_d(kind, size, convolutions):
    model = meta(f"{kind.lower()}-grey")
    assert model.settings.channels == 1
    x = torch.empty(2, 1, 37, 147, device="meta")
    assert model.stage_one(x).shape == (2, 1, *size) and model(x)[1].shape == (2, 1, 37, 147)
    assert len(of_kind(model, nn.Conv2d | nn.ConvTranspose2d)) == convolutions
    assert not of_kind(model, nn.BatchNorm2d)
    assert networks.build(networks.architecture("scrx-rgb", 1 / 16)).settings.input_size == (
        94,
        310,
    )


def test_grey_input_is_luminance():
    rgb = np.zeros((2, 3, 3), np.uint8)
    rgb[0, :, 1] = 255
    x = inputs.assemble(rgb, np.ones((2, 3), np.float32), "grey", 2.8)
    assert x.shape == (1, 2, 3) and x.dtype == np.float32
    assert x[0, 0, 0] - x[0, 1, 0] == pytest.approx(0.587 / inputs.RGB_STD.mean(), rel=0.01)


def test_fractions_become_metres():
    model = networks.build(networks.architecture("sc-grey", 1 / 8))
    with torch.no_grad():
        last = model.stage_one.trunk[-2]
        last.weight.zero_(), last.bias.fill_(100.0)
        assert (model(torch.randn(1, 1, 37, 147))[1] == model.settings.max_depth).all()


# --- Stage one is pluggable (B, section 4.3) -----------------------------------------------------


def test_any_model_becomes_stage_one():
    base = networks.architecture("two-stage-rgb", 1 / 16)
    spec, weights = networks.plug(base, "scrx-rgb", 1 / 16)
    assert weights is None and spec["stage_two"] == base["stage_two"]
    assert spec["stage_one"]["width"] == 1 / 16
    model = networks.build(spec)
    assert model.settings.input_size == (94, 310) and model.settings.max_depth == 80
    assert model.settings.refined_size == (256, 256)
    with pytest.raises(ValueError, match="stage_one: expected a model that has one"):
        networks.plug(base, "single-cgan-rgb")
    with pytest.raises(ValueError, match="or one of the shipped"):
        networks.plug(base, "no-such-model")


def test_a_checkpoint_becomes_stage_one(tmp_path):
    other = networks.architecture("fcrn18-rgbd", 1 / 16)
    trained = networks.build(other).half().float()
    networks.save(tmp_path / "one.safetensors", trained, other, {})
    spec, weights = networks.plug(
        networks.architecture("two-stage-rgb", 1 / 16), str(tmp_path / "one.safetensors")
    )
    model = networks.build(spec)
    model.stage_one.load_state_dict(weights)
    x = torch.randn(1, 4, 64, 96)
    with torch.no_grad():
        assert torch.equal(model.eval().coarse(x), trained.eval().coarse(x))


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match=r"model: expected one of .*; nearest: resnet-upcon"):
        networks.build("resnet50-upconv")
