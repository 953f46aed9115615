"""Patch features after every block: those of timm's own way to intermediate maps, and which four are taken."""

import pytest
import torch
from torch import nn

from pipelines.encoders import export, mi2, vit
from pipelines.encoders.depths import spread, watch


def test_depths_are_evenly_spaced_and_end_with_the_last():
    assert spread(12) == [2, 5, 8, 11]
    assert spread(24) == [5, 11, 17, 23]
    assert spread(5) == [1, 2, 3, 4]
    assert spread(4) == [0, 1, 2, 3]
    assert spread(3) == [0, 1, 2]
    assert spread(7, 2) == [3, 6]


def test_nobody_watches_any_more_when_something_broke():
    module = nn.Identity()
    with pytest.raises(ValueError), watch([module]):
        raise ValueError
    assert not module._forward_hooks


def test_maps_of_rad_dino_are_timms():
    tower, _ = export.untrained_rad_dino(0)
    tower.eval()
    x_BCHW = torch.randn(2, 3, vit.RAD_DINO_TINY.image, vit.RAD_DINO_TINY.image)
    with torch.no_grad():
        found = tower.maps(x_BCHW)
        expected = tower.forward_intermediates(x_BCHW, norm=True, intermediates_only=True)
        last = tower(x_BCHW)[1]
    assert len(found) == vit.RAD_DINO_TINY.depth and torch.equal(found[-1], last)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


def test_maps_of_mi2_are_timms():
    towers = export.untrained_mi2(0, mi2.MI2_TINY).eval()
    x_BCHW = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        found = towers.image_maps(x_BCHW)
        expected = towers.image_encoder.forward_intermediates(x_BCHW, intermediates_only=True)
        last = towers.image_features(x_BCHW)[1]
    assert [m.shape[1] for m in found] == [32, 16, 8, 4] and torch.equal(found[-1], last)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.permute(0, 2, 3, 1))
