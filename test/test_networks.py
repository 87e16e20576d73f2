# SPDX-License-Identifier: Apache-2.0
"""The networks: counts, shapes, equal forms, gradients, receptive field."""

import numpy as np
import pytest
import torch

from depth_two_stage import networks
from depth_two_stage.networks import blocks, encoders, inputs


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def small(name):
    return networks.build(networks.architecture(name, 1 / 8))


@pytest.mark.parametrize(
    ("encoder", "channels", "count"),
    # E, Table 1: 63.6 M; with a fourth channel 3,136 more (sparse-to-dense counts 63,566,144
    # without the last bias).
    [("resnet50", 3, 63_563_009), ("resnet50", 4, 63_566_145), ("resnet18", 5, 13_687_793)],
)
def test_parameter_counts(encoder, channels, count):
    with torch.device("meta"):
        assert parameters(networks.FCRN(encoder, channels)) == count


def test_generator_has_nine_blocks_and_the_papers_cost():
    with torch.device("meta"):
        generator = networks.ResidualGenerator()
    assert len(generator.blocks) == 9
    # 18 of the 3×3 convolutions at 64×64 and 256 channels alone are 87 of A's 99 GFLOP.
    flop = 2 * sum(
        module.weight.numel() * 64 * 64
        for module in generator.blocks.modules()
        if isinstance(module, torch.nn.Conv2d)
    )
    assert flop == pytest.approx(87e9, rel=0.01)


def test_stage_one_output_is_the_papers_size():
    assert small("fcrn50-rgb").stage_one(torch.randn(2, 3, 228, 304)).shape == (2, 1, 128, 160)


def test_fast_up_convolution_equals_the_plain_one():
    torch.manual_seed(0)
    plain, fast = blocks.PlainUp(5, 7), blocks.FastUp(5, 7)
    fast.load_plain(plain.conv.weight)
    x = torch.randn(2, 5, 9, 6)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), plain(x), rtol=0, atol=1e-5)
    assert torch.equal(fast.plain_weight(), plain.conv.weight)


def test_top_left_side_looks_up_and_left():
    fast = blocks.FastUp(1, 1, side="top_left")
    with torch.no_grad():
        for module in (fast.conv_a, fast.conv_b, fast.conv_c, fast.conv_d):
            module.weight.zero_()
        fast.conv_d.weight[0, 0, 0, 0] = 1.0  # the upper left of the 2×2
        x = torch.arange(1.0, 7).reshape(1, 1, 2, 3)
        out = fast(x)[0, 0]
    # Pixel (2i + 1, 2j + 1) shows x[i - 1, j - 1].
    assert out[3, 3] == x[0, 0, 0, 0] and out[3, 5] == x[0, 0, 0, 1] and out[1].abs().sum() == 0
    with pytest.raises(ValueError, match="side"):
        fast.plain_weight()


def test_unpool_puts_the_value_top_left():
    out = blocks.unpool(torch.tensor([[[[3.0]]]]))
    assert out.tolist() == [[[[3.0, 0.0], [0.0, 0.0]]]]


def test_discriminator_sees_exactly_70_pixels():
    judge = networks.PatchDiscriminator((4, 4, 4, 4)).eval()
    for module in judge.modules():  # no chance cancellation, no dead ReLU
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 0.1)
    rough = torch.randn(1, 1, 256, 256, requires_grad=True)
    logits = judge(rough, torch.randn(1, 1, 256, 256))
    assert logits.shape == (1, 1, 30, 30)
    logits[0, 0, 15, 15].backward()
    seen = rough.grad[0, 0].nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [70, 70]


def test_two_stage_without_training_keeps_the_filled_depth():
    model = networks.build("two-stage-rgbd-18").eval()
    x = torch.zeros(1, 5, 228, 304)
    x[:, 3] = torch.linspace(1, 5, 304)
    with torch.no_grad():
        coarse, refined = model(x)
    expected = torch.nn.functional.interpolate(x[:, 3:4], (256, 256), mode="bilinear")
    assert (coarse - expected).abs().max() < 0.5 and (refined - coarse).abs().max() < 0.05


def test_alignment_cuts_what_lies_outside_the_input():
    model = small("two-stage-rgbd-18").eval()
    seen = {}
    model.stage_one.register_forward_hook(lambda m, i, o: seen.update(out=o))
    x = torch.zeros(1, 5, 228, 304)
    with torch.no_grad():
        coarse = model.coarse(x)
        cut = torch.nn.functional.interpolate(
            seen["out"][..., :114, :152], (256, 256), mode="bilinear"
        )
    torch.testing.assert_close(coarse, cut)


def test_tanh_generator_stays_in_its_range():
    model = small("two-stage-rgbd").eval()
    with torch.no_grad():
        _, refined = model(torch.randn(1, 4, 228, 304) * 50)
    assert refined.min() >= 0 and refined.max() <= model.settings.max_depth


def test_imagenet_files_load_and_the_fourth_channel_follows():
    source = encoders.ResNet("resnet18", 3)
    state = source.state_dict() | {
        "fc.weight": torch.zeros(1000, 512),
        "fc.bias": torch.zeros(1000),
    }
    for extra in ("mean", "zero"):
        target = encoders.ResNet("resnet18", 4)
        encoders.load_imagenet(target, dict(state), extra)
        stem = target.conv1.weight
        assert torch.equal(stem[:, :3], source.conv1.weight)
        wanted = source.conv1.weight.mean(1) if extra == "mean" else torch.zeros_like(stem[:, 3])
        torch.testing.assert_close(stem[:, 3], wanted)
    with pytest.raises(ValueError, match=r"conv1\.weight: expected shape"):
        encoders.load_imagenet(encoders.ResNet("resnet18", 4, width=0.5), dict(state))


def test_inputs_of_each_kind():
    rgb = np.full((4, 6, 3), 128, np.uint8)
    sparse = np.zeros((4, 6), np.float32)
    sparse[1, 1], sparse[3, 5] = 2.0, 7.0
    assert inputs.assemble(rgb, sparse, "none", 2.8).shape == (3, 4, 6)
    assert np.array_equal(inputs.assemble(rgb, sparse, "zeros", 2.8)[3], sparse)
    filled = inputs.assemble(rgb, sparse, "filled", 2.8)
    assert filled[3, 0, 0] == 2.0 and filled[3, 3, 4] == 7.0
    assert filled[4, 1, 1] == 0 and filled[4, 1, 3] == pytest.approx(2 / inputs.FAR, rel=0.05)
    for nothing in (None, np.zeros((4, 6), np.float32)):
        empty = inputs.assemble(rgb, nothing, "filled", 2.8)
        assert (empty[3] == np.float32(2.8)).all() and (empty[4] == 1).all()
    with pytest.raises(ValueError, match="sparse_input"):
        inputs.assemble(rgb, sparse, "lots", 2.8)


def test_nearest_fill_agrees_with_brute_force():
    rng = np.random.default_rng(0)
    sparse = np.where(rng.random((40, 50)) < 0.01, rng.uniform(1, 9, (40, 50)), 0).astype(
        np.float32
    )
    filled, distance = inputs.nearest_fill(sparse)
    points = np.argwhere(sparse)
    grid = np.stack(np.indices(sparse.shape), -1).reshape(-1, 1, 2)
    apart = np.linalg.norm(grid - points, axis=2)
    # OpenCV's 5×5 mask errs by up to 2 %, so at near ties the other point may be taken.
    np.testing.assert_allclose(distance.ravel(), apart.min(1), rtol=0.03, atol=0.1)
    chosen = np.abs(filled.ravel()[:, None] - sparse[tuple(points.T)]).argmin(1)
    assert (apart[np.arange(len(apart)), chosen] <= apart.min(1) * 1.05 + 0.1).all()


@pytest.mark.parametrize(
    "spec",
    [
        "vgg-19",
        {"stage_one": {"name": "fcrn", "encoder": "vgg"}},
        {"stage_one": {"name": "fcrn", "colour": 1}},
        {"stage_one": {"name": "nothing"}},
        {"stage_one": {"name": "fcrn"}, "settings": {"focus": 1}},
        {"stage_one": {"name": "fcrn"}, "settings": {"min_depth": 5, "max_depth": 1}},
        {"stage_one": {"name": "fcrn"}, "settings": {"sparse_input": "lots"}},
    ],
)
def test_wrong_architectures_are_named(spec):
    with pytest.raises(ValueError, match="expected"):
        networks.build(spec)
