"""Sampling of ours beside diffusers' pipeline; `make benchmark` prints the whole table."""

import statistics

import pytest

from tests.performance.against_diffusers import SAME, compare

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_sampling_gives_the_pipelines_images_in_no_more_time(guidance):
    apart, _, ratios = compare(16, 5, guidance, rounds=5)
    assert apart < SAME
    assert statistics.median(ratios) > 0.9
