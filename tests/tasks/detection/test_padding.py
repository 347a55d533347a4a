"""What a detector finds in an image does not depend on how much of its input is padding, nor on what it saw first."""

import copy

import torch
from torchvision.models.detection.image_list import ImageList

from botvision.tasks.detection import MaskRCNN
from botvision.tasks.detection.proposals import ProposalNetwork


def test_the_first_image_does_not_decide_from_where_later_ones_are_pooled(lively_model):
    fresh, seasoned = copy.deepcopy(lively_model).eval(), copy.deepcopy(lively_model).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    wide = [(24, 64)]
    with torch.no_grad():
        seasoned(images[1:], [(64, 64)])  # an image without padding before
        found, expected = fresh(images[:1], wide)[0], seasoned(images[:1], wide)[0]
    assert len(expected["scores"]) > 0
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values)


def test_regions_are_pooled_at_the_strides_of_the_maps(lively_model):
    model = copy.deepcopy(lively_model).eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), [(24, 64)])
    assert model.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    assert model.roi_heads.mask_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def anchors_of(network: ProposalNetwork, dtype: torch.dtype, size: int) -> torch.Tensor:
    maps = [torch.zeros(1, 1, size // stride, size // stride, dtype=dtype) for stride in network.strides]
    return network.anchors(ImageList(torch.zeros(1, 3, size, size), [(size, size)]), maps)[0]


def test_anchors_of_a_bfloat16_network_are_those_of_a_float32_one(tiny):
    network = MaskRCNN(tiny, 6).rpn
    exact = anchors_of(network, torch.float32, 1024)
    assert exact.dtype == torch.float32
    assert torch.equal(anchors_of(network, torch.bfloat16, 1024), exact)


def test_anchors_are_in_strides_of_their_level_also_where_c5_keeps_its_stride(tiny):
    network = MaskRCNN(tiny.replace(backbone="botnet50_s1", anchor_scale=8.0, anchor_ratios=(1.0,)), 6).rpn
    assert network.strides == (4, 8, 16, 16, 32)
    sides = anchors_of(network, torch.float32, 64)[:, 2:] - anchors_of(network, torch.float32, 64)[:, :2]
    assert sorted(set(sides.flatten().round().int().tolist())) == [32, 64, 128, 256]
