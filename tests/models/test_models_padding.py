"""Padding of an image, where a network is told of it, has no part in its attention."""

import pytest
import torch

from botvision.models import Network, NetworkConfig

DEPTHS = (1, 1, 1, 2)
REACH = 22
"""Pixels from which the convolutions of such a network take in what is around a position: of stem and pooling 5, of the
3x3 convolutions 4, 4 and 8 (stages c2 to c4), rounded up."""


def network(**changes) -> Network:
    torch.manual_seed(0)
    config = NetworkConfig(depths=DEPTHS, width=8, input_size=192, **{"attention_in": ("c5",), **changes})
    model = Network(config, features_only=True).double().eval()
    for module in model.layer4.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight)  # the last one of a block is 0, so that the block would do nothing
    return model


@pytest.mark.parametrize(
    "changes",
    [{}, {"c5_stride": 1}, {"attention": "qk"}, {"insert_in": ("c5",), "insert": "nonlocal"}],
    ids=["botnet", "stride 1", "content", "non-local"],
)
def test_maps_do_not_depend_on_padding_past_the_reach_of_convolutions(changes):
    model = network(**changes)
    content = torch.tensor([[64, 128], [128, 64]])
    small, large = torch.zeros(2, 3, 160, 160).double(), 5 * torch.randn(2, 3, 192, 192).double()
    for index, (height, width) in enumerate((content + REACH).tolist()):
        small[index, :, :height, :width] = large[index, :, :height, :width]
    ours, theirs = model(small, content)[-1], model(large, content)[-1]
    blind = model(large)[-1]
    for index, (height, width) in enumerate((content // model.config.reductions[-1]).tolist()):
        torch.testing.assert_close(ours[index, :, :height, :width], theirs[index, :, :height, :width])
        assert not torch.allclose(ours[index, :, :height, :width], blind[index, :, :height, :width], rtol=0.01)


def test_recomputed_blocks_leave_out_the_same_padding():
    gradients = []
    for recompute in (False, True):
        model = network()
        model.set_grad_checkpointing(recompute)
        images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
        model(images, torch.tensor([[64, 32]]))[-1].square().sum().backward()
        gradients.append(images.grad)
    torch.testing.assert_close(*gradients)
