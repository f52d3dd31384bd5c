"""Maps whose place is known, against regions that are known."""

import pytest
import torch

from foveate.errors import FoveateError
from foveate.explain.focus import centre_bias, inside_boxes, lesion_focus, mass_inside, pointing_hit, rank_accuracy
from foveate.explain.trust.pointing import pointing

REGION = torch.zeros(10, 10, dtype=torch.bool)
REGION[2:4, 5:9] = True  # 8 of 100


def test_an_even_map_has_the_value_of_chance_exactly():
    even = torch.full((10, 10), 3.0)
    assert pointing_hit(even, REGION) == mass_inside(even, REGION) == rank_accuracy(even, REGION) == 0.08
    assert lesion_focus(even, REGION) == 0


def test_the_region_itself_has_the_most():
    ideal = REGION.float()
    assert pointing_hit(ideal, REGION) == mass_inside(ideal, REGION) == rank_accuracy(ideal, REGION) == 1


def test_a_hit_may_be_near_by_straight_distance():
    heat = torch.zeros(10, 10)
    heat[6, 1] = 1  # 3 below the lowest row, 4 left of the first column: 5 away
    assert pointing_hit(heat, REGION) == 0
    assert pointing_hit(heat, REGION, tolerance=4.99) == 0
    assert pointing_hit(heat, REGION, tolerance=5) == 1
    heat[2, 5] = 1
    assert pointing_hit(heat, REGION) == 0.5  # of two that are highest alike


def test_rank_accuracy_is_the_mean_over_the_orders_of_equal_values():
    inside = torch.tensor([True, True, True, False, False])
    heat = torch.tensor([5.0, 1.0, 1.0, 1.0, 0.0])
    # the highest three: the first, and two of three that are alike, two thirds of which are inside
    assert rank_accuracy(heat, inside) == pytest.approx((1 + 2 * 2 / 3) / 3, rel=1e-12)
    assert rank_accuracy(torch.tensor([0.0, 1, 2, 3, 4]), inside) == pytest.approx(1 / 3, rel=1e-12)


def test_boxes_become_the_pixels_whose_middle_they_hold():
    mask = inside_boxes(torch.tensor([[5.0, 2.0, 9.0, 4.0], [0.4, 0.6, 1.4, 1.4]]), (10, 10))
    assert torch.equal(mask[2:], REGION[2:])
    assert mask[:2].nonzero().tolist() == []  # the second holds no middle: 0.5 is above 0.6 in y
    assert inside_boxes(torch.tensor([[0.4, 0.4, 1.4, 1.4]]), (3, 3)).nonzero().tolist() == [[0, 0]]


def test_no_region_or_nothing_else_says_nothing():
    heat = torch.rand(4, 4)
    for inside in (torch.zeros(4, 4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool)):
        assert pointing_hit(heat, inside) is mass_inside(heat, inside) is rank_accuracy(heat, inside) is None
    with pytest.raises(FoveateError, match="do not fit"):
        rank_accuracy(heat, REGION)


def test_baselines_stand_beside_and_images_without_a_region_are_left_out():
    middle = torch.zeros(20, 20, dtype=torch.bool)
    middle[8:12, 8:12] = True
    nothing = torch.zeros(20, 20, dtype=torch.bool)
    ideal = [middle.float(), nothing.float() + 1, middle.float()]
    found = pointing({"mine": ideal}, [middle, nothing, middle])
    assert found.images == (0, 2)
    assert found.mean("mine", "rank_accuracy").mean == 1
    assert found.mean("uniform", "mass_inside").mean == 16 / 400
    bias = centre_bias(20, 20)
    assert found.mean("centre", "mass_inside").mean == pytest.approx(
        float(bias[8:12, 8:12].sum() / bias.sum()), rel=1e-6
    )
    assert found.mean("centre", "pointing_hit").mean == 1
    assert found.beyond("mine", "mass_inside").mean > 0.5
