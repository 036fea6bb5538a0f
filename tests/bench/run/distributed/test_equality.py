"""One worker and two give the same gradient and the same curve, for every stage of ZeRO."""

import pytest
import torch

from bench.run.trial import run_trial
from bench.store.trial_folder import TrialFolder
from methods import registry
from tests.bench.run.distributed.groups import SIZE, run_all, together
from tests.bench.run.test_trial import MACHINE, make_trial, points

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

STAGES = {"whole": 0, "gradients": 2, "weights": 3}
LIMIT = 40.0  # reward queries: twenty updates of AlignProp, ten rollouts of DDPO


def compare(tmp_path, model, stages, *methods, limit=LIMIT, on_gpu=False):
    length = {"limit": limit, "every": 4.0, "gpus": float(on_gpu)}
    one = {method: make_trial(model, method, **length) for method in methods}
    many = {
        f"{method}-{stage}": make_trial(model, method, workers=SIZE, zero=stage, **length)
        for method in methods
        for stage in stages
    }
    for method, trial in one.items():
        run_trial(trial, TrialFolder(tmp_path / method))
    together(run_all, tmp_path / "group", many, on_gpu=on_gpu)
    for method in methods:
        for stage in stages:
            same_curve(TrialFolder(tmp_path / method), TrialFolder(tmp_path / "group" / f"{method}-{stage}"), method)


def same_curve(one, many, method):
    first, second = ([point.stored() for point in folder.read_curve()] for folder in (one, many))
    assert len(first) == len(second)
    norms = [[row["extra"]["gradient_norm"] for row in curve[1:] if row["extra"]] for curve in (first, second)]
    if norms[0]:
        assert norms[1][0] == pytest.approx(norms[0][0], rel=1e-4), "the first gradient"
    # A clip or a choice of the best may turn rounding into another image.
    within = 1e-3 if method in ("alignprop", "rwr") else 1e-2
    for a, b in zip(first, second, strict=True):
        for split, metrics in a["values"].items():
            assert b["values"][split] == pytest.approx(metrics, rel=within, abs=within)
        counted = {axis: value for axis, value in a["axes"].items() if axis not in MACHINE}
        assert {axis: b["axes"][axis] for axis in counted} == counted, "what was spent does not depend on the workers"
    assert len(many.read_evaluation()) == len(one.read_evaluation())


def test_alignprop_at_stages_0_and_3(tmp_path, tiny_model):
    compare(tmp_path, tiny_model, (0, 3), "alignprop", limit=LIMIT / 2)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_every_stage(tmp_path, tiny_model, stage):
    compare(tmp_path, tiny_model, (stage,), "alignprop", "ddpo", "rwr")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < SIZE, reason="NCCL wants a GPU for each of two workers")
@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_every_stage_over_nccl(tmp_path, tiny_model, stage):
    compare(tmp_path, tiny_model, (stage,), "alignprop", "ddpo", "rwr", on_gpu=True)


@pytest.mark.slow
def test_every_method_under_sharded_weights(tmp_path, tiny_model):
    """The first steps of each: none reaches past the policy and the optimiser, so none needs a word about workers."""
    methods = [name for name in registry.names() if not registry.load(name).own_trainer]
    compare(tmp_path, tiny_model, (3,), *methods, limit=16.0)


def twice(folder, begun, whole):
    """A trial that stops half-way and is taken up by other engines, beside one that never stopped."""
    for stage, trial in begun.items():
        run_all(folder, {f"resumed-{stage}": trial})
        run_all(folder, {f"resumed-{stage}": whole[stage], f"straight-{stage}": whole[stage]})


@pytest.mark.slow
def test_resuming_gives_the_same_curve_bit_for_bit(tmp_path, tiny_model):
    stages = (0, 3)
    begun, whole = (
        {stage: make_trial(tiny_model, "alignprop", workers=SIZE, zero=stage, limit=limit) for stage in stages}
        for limit in (8.0, 16.0)
    )
    together(twice, tmp_path / "group", begun, whole)
    for stage in stages:
        resumed, straight = (TrialFolder(tmp_path / "group" / f"{name}-{stage}") for name in ("resumed", "straight"))
        assert points(resumed) == points(straight)
        assert len(points(straight)) == 5


def other_world(folder, trial):
    from bench.build.zero import ZeroOptimiser
    from bench.run.trial import TrialLoop
    from models.workers import Workers

    loop = TrialLoop(trial, TrialFolder(folder / "loop"), Workers())
    assert isinstance(loop.optimiser, ZeroOptimiser)
    state = loop.optimiser.state_dict()
    with pytest.raises(ValueError, match="a checkpoint of 1 workers cannot be continued by 2"):
        loop.optimiser.load_state_dict({**state, "shares": state["shares"][:1]})


@pytest.mark.slow
def test_another_number_of_workers_is_refused(tmp_path, tiny_model):
    together(other_world, tmp_path / "group", make_trial(tiny_model, "alignprop", workers=SIZE, zero=2))
