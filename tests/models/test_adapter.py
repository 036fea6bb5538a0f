import re

import pytest

from models.adapter import DEFAULT_TARGETS, wrong_targets
from models.inspection import bare_unet, inspect_model


@pytest.fixture(scope="module")
def unet(tiny_model):
    return bare_unet(inspect_model(tiny_model).unet)


@pytest.mark.parametrize(
    "targets", [DEFAULT_TARGETS, ["to_q"], ["attn2.to_k"], ["conv_in"], ["proj_in", "ff.net.2", "time_emb_proj"]]
)
def test_suffixes_of_layers_are_accepted(targets, unet):
    assert wrong_targets(unet, targets) == []


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["to_q", "to_typo"], "'to_typo' matches no module of the denoiser"),
        (["to_q", "to_w"], "did you mean 'to_"),
        ([r".*attn.*to_q"], "not patterns"),
        (["to_*"], "not patterns"),
        (["q"], "entries are suffixes of module names"),
        (["o_q"], "matches no module"),
        (["attn1"], r"'attn1' matches .*attn1 \(Attention\), .*; in it are to_q, to_k, to_v, to_out\.0"),
        (["norm1"], r"norm1 \((GroupNorm|LayerNorm)\)"),
        (["all-linear"], "matches no module"),
        (["TO_Q"], "did you mean|entries are suffixes"),
    ],
)
def test_each_entry_that_matches_no_layer_is_named(targets, words, unet):
    (what,) = wrong_targets(unet, targets)
    assert re.search(words, what)


def test_every_wrong_entry_is_told(unet):
    assert [what.partition(" ")[0] for what in wrong_targets(unet, ["to_w", "to_q", ".*", "to_w"])] == [
        "'to_w'",
        "'.*'",
    ]
