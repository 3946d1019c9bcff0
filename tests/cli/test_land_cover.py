"""From label cells to images, soft labels and stripes."""

from __future__ import annotations

import pytest
import torch

from jml_kernels.cli.train import land_cover
from jml_kernels.extras import MissingPackageError


def test_classes_partition_the_seventeen():
    members = [number for _, group in land_cover.CLASSES for number in group]
    assert sorted(members) == list(range(17))


def test_merge_classes():
    cells = torch.tensor([[0, 1, 5], [9, 13, 16]], dtype=torch.uint8)
    names = [[land_cover.CLASS_NAMES[i] for i in row] for row in land_cover.merge_classes(cells)]
    assert names == [
        ["water", "forest", "forest"],
        ["savanna", "cropland, urban", "barren, snow, ice"],
    ]


def test_merge_classes_refuses_other_numbers():
    with pytest.raises(IndexError):
        land_cover.merge_classes(torch.tensor([[255]], dtype=torch.uint8))


def test_cover_fractions_by_hand():
    cells = torch.tensor([[0, 0, 2, 2], [0, 1, 2, 2]], dtype=torch.uint8)
    cover = land_cover.cover_fractions(cells, 3, block=2)
    assert cover.tolist() == [[[0.75, 0.0]], [[0.25, 0.0]], [[0.0, 1.0]]]


def test_validation_columns_are_every_fourth_stripe():
    held_out = land_cover.validation_columns(20, stripe=2, every=4)
    assert held_out.nonzero().flatten().tolist() == [6, 7, 14, 15]


def test_labels_are_the_largest_share(synthetic):
    share = synthetic.cover.gather(0, synthetic.labels.unsqueeze(0))[0]
    assert torch.equal(share, synthetic.cover.amax(dim=0))


def test_water_disagreement_finds_the_shift(synthetic):
    moved = land_cover.water_disagreement(synthetic.image, synthetic.labels)
    assert min(moved, key=moved.get) == (0, 0)
    # An image that lies one pixel too far east must be moved west.
    east = synthetic.image.roll(1, dims=2)
    moved = land_cover.water_disagreement(east, synthetic.labels)
    assert min(moved, key=moved.get) == (0, -1)


def test_facts(synthetic):
    found = land_cover.facts(synthetic)
    assert (found.height, found.width) == synthetic.labels.shape
    assert found.training_pixels + found.validation_pixels == synthetic.labels.numel()
    assert found.validation_pixels == synthetic.labels.numel() // 4
    assert sum(found.training_shares) == pytest.approx(1)
    assert 0 < found.mixed < 1
    assert found.water_disagreement < found.water_disagreement_moved


def test_real_maps():
    """What the demo is told to find, on the real data."""
    try:
        data = land_cover.load()
    except MissingPackageError as error:
        pytest.skip(str(error))
    assert data.image.shape == (3, 600, 1800)
    assert data.image.dtype == torch.uint8
    assert data.cover.shape == (6, 600, 1800)
    torch.testing.assert_close(data.cover.sum(dim=0), torch.ones(600, 1800))
    found = land_cover.facts(data)
    assert 0.11 < found.mixed < 0.15
    assert found.water_disagreement < 0.01
    assert found.water_disagreement < 0.7 * found.water_disagreement_moved
    assert found.validation_pixels == 600 * 400
    assert min(found.training_shares + found.validation_shares) > 0.02
