from collections import Counter

import pytest
import torch
from pydantic import ValidationError

from methods.refl import ReFLSettings, stops
from models.sampler import SamplerSettings
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build


@pytest.mark.parametrize(("steps", "expected"), [(40, range(30, 40)), (5, range(3, 5)), (1, range(1))])
def test_stops_are_the_source_s_and_scale_to_any_t(steps, expected):
    assert stops(ReFLSettings(), steps) == expected


def test_a_stop_is_drawn_for_each_update_and_spends_that_many_steps():
    method = build("refl", LinearFamily(), SamplerSettings(4, 1.0, 1.0), stop_from=0.25)
    seen: Counter[int] = Counter()
    for _ in range(40):
        before = method.policy.meter.ledger.nfe_forward
        stop = int(method.step(PROMPTS).extra["stop"])
        assert method.policy.meter.ledger.nfe_forward - before == 4 * (stop + 1)
        seen[stop] += 1
    assert set(seen) == {1, 2, 3}
    assert method.policy.meter.ledger.nfe_backward == 40 * 4


def test_losses():
    rewards = torch.tensor([1.5, 2.5])
    torch.testing.assert_close(build("refl", LinearFamily()).loss(rewards), -rewards)
    source = build("refl", LinearFamily(), threshold=2.0, loss_scale=1e-3)
    torch.testing.assert_close(source.loss(rewards), torch.tensor([5e-4, 0.0]))


def test_an_empty_range_of_stops_is_refused():
    with pytest.raises(ValidationError, match="stop_from must be below stop_to"):
        ReFLSettings(stop_from=0.9, stop_to=0.5)
