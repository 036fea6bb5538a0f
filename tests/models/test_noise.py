import torch
from scipy import stats

from models.noise import SeedStream


def test_noise_is_keyed_by_purpose_and_sample_never_by_position():
    stream = SeedStream(7)
    together = stream.noise("rollout", 3, 801, [0, 1, 2], (4, 2))
    torch.testing.assert_close(stream.noise("rollout", 3, 801, [2], (4, 2))[0], together[2], rtol=0, atol=0)
    for other in (
        SeedStream(8).noise("rollout", 3, 801, [2], (4, 2)),
        stream.noise("evaluation", 3, 801, [2], (4, 2)),
        stream.noise("rollout", 4, 801, [2], (4, 2)),
        stream.noise("rollout", 3, 601, [2], (4, 2)),
        stream.noise("rollout", 3, 801, [1], (4, 2)),
    ):
        assert not torch.equal(other[0], together[2])


def test_keyed_noise_is_standard_normal():
    draws = SeedStream(0).noise("test", 0, 0, range(2000), (4,)).flatten()
    assert stats.kstest(draws.numpy(), "norm").pvalue > 0.001
