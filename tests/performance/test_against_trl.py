"""Ours beside TRL's, on the embedded model; `make benchmark` prints the whole table."""

import pytest
import torch

from tests.methods.peers.build import needs_trl
from tests.performance.against_trl import Result, Shape, compare

pytestmark = [pytest.mark.slow, needs_trl]


@pytest.fixture(scope="module")
def results() -> dict[tuple[str, str], Result]:
    torch.set_num_threads(1)
    lines = compare(Shape(), rounds=5)
    return {(line.family, line.label.partition(" (")[0]): line for line in lines}


def test_the_work_is_the_same(results):
    """Denoiser rows, forward, backward and recomputed; without recomputation fewer."""
    peer = results["alignprop", "TRL"]
    assert results["alignprop", "ours, checkpointing step"].nfe == peer.nfe
    assert results["alignprop", "ours, checkpointing none"].nfe < peer.nfe
    for one in ("ddpo", "ddpo-small"):
        assert len({line.nfe for (family, _), line in results.items() if family == one}) == 1


def test_alignprop_at_equal_checkpointing_needs_no_more_memory_and_no_more_time(results):
    ours, peer = results["alignprop", "ours, checkpointing step"], results["alignprop", "TRL"]
    assert ours.peak_bytes < 1.1 * peer.peak_bytes  # two processes of one kind differ by a few per cent
    assert ours.ratio > 0.9


def test_alignprop_with_memory_to_spare_is_faster(results):
    """A backward row costs about two forward rows: TRL pays 80 + 48 + 2 · 48 = 224, we 176, which bounds it by 1.27."""
    assert results["alignprop", "ours, checkpointing auto"].ratio > 1.05


def test_a_ddpo_epoch_is_no_slower(results):
    assert results["ddpo", "ours, 16 rows at a time"].ratio > 0.85


def test_rows_that_batch_freely_pay_where_updates_are_small(results):
    """At the sizes of TRL's own example, 3 images an update: it walks their timesteps, we take all 15 rows at once."""
    whole, part, peer = (
        results["ddpo-small", name] for name in (*(f"ours, {n} rows at a time" for n in (15, 6)), "TRL")
    )
    assert whole.ratio > 1.25
    assert part.ratio > 1.0
    assert part.peak_bytes < 1.1 * peer.peak_bytes
