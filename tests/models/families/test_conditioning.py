import pytest
import torch

from models.families.conditioning import Conditioning, join


def conditioning(rows: int, seed: int = 0) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)
    tokens, vector = torch.randn(rows, 5, 3, generator=generator), torch.randn(rows, 2, generator=generator)
    return Conditioning((tokens, vector), torch.randn(rows, 4, generator=generator))


def same(ours: Conditioning, tokens: torch.Tensor, vector: torch.Tensor, pooled: torch.Tensor) -> bool:
    pairs = zip((*ours.tensors, ours.pooled), (tokens, vector, pooled), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(
    "rows", [slice(1, 3), [2, 0, 2], torch.tensor([1, 1]), torch.tensor([True, False, True])], ids=str
)
def test_rows_are_chosen_of_every_tensor(rows):
    whole = conditioning(3)
    (tokens, vector), pooled = whole.tensors, whole.pooled
    assert same(whole[rows], tokens[rows], vector[rows], pooled[rows])
    assert len(whole[rows]) == len(pooled[rows])


def test_parts_are_joined_one_after_another():
    one, other = conditioning(2), conditioning(3, seed=1)
    joined = join([one, other])
    assert len(joined) == 5
    assert same(joined[:2], *one.tensors, one.pooled)
    assert same(joined[2:], *other.tensors, other.pooled)


def test_all_rows_are_repeated_in_their_order():
    whole = conditioning(2)
    repeated = whole.repeat(3)
    assert len(repeated) == 6
    for times in range(3):
        assert same(repeated[2 * times : 2 * times + 2], *whole.tensors, whole.pooled)
