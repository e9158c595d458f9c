"""The nearest-neighbour entropy against closed forms."""

import numpy as np
import pytest

from fewstep.analysis.statistics.nearest_neighbour_entropy import nearest_neighbour_entropy


@pytest.mark.parametrize("size", [1, 2])
def test_a_uniform_box_has_the_logarithm_of_its_volume(size):
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20_000, size)) * 0.4
    assert nearest_neighbour_entropy(points) == pytest.approx(size * np.log(0.4), abs=0.05)


@pytest.mark.parametrize("std", [0.01, 0.1])
def test_a_gaussian(std):
    points = std * np.random.default_rng(1).normal(size=(20_000, 2))
    assert nearest_neighbour_entropy(points) == pytest.approx(np.log(2 * np.pi * np.e * std**2), abs=0.04)


def test_a_mixture_of_far_components_has_the_entropy_of_the_choice_on_top():
    rng = np.random.default_rng(2)
    centres = np.array([[-0.6, 0.0], [0.6, 0.0]])[rng.integers(0, 2, 20_000)]
    points = centres + 0.05 * rng.normal(size=centres.shape)
    expected = np.log(2) + np.log(2 * np.pi * np.e * 0.05**2)
    assert nearest_neighbour_entropy(points) == pytest.approx(expected, abs=0.04)


def test_what_is_cut_off_is_left_out():
    rng = np.random.default_rng(3)
    inside = rng.uniform(-0.9, 0.9, (5_000, 2))
    cut = np.column_stack([np.ones(3_000), rng.uniform(-1, 1, 3_000)])
    both = nearest_neighbour_entropy(np.concatenate([inside, cut]))
    assert both == nearest_neighbour_entropy(inside)


def test_no_density_and_too_few_points():
    assert nearest_neighbour_entropy(np.zeros((100, 2))) == -np.inf
    assert np.isnan(nearest_neighbour_entropy(np.zeros((4, 2))))
