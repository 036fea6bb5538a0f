"""A report reads every file of a trial once, and its frames are those that a row at a time would give."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bench.store.trial_folder
from bench.results.report import pictures, report
from bench.store.frames import EVALUATION_COLUMNS, RESULT_COLUMNS
from bench.store.run_folder import RunFolder
from reports.frame import validate_curves
from reports.names import CURVE_AXES

ABOUT = {
    "name": "many",
    "description": "",
    "command": "bench run many.yaml",
    "parallel": 1,
    "budget": {"axis": "reward_queries", "limit": 64},
    "target": 1.0,
    "reward": "colourfulness",
    "gold": "gold",
    "prompts": {"train": ["a cat", "a dog"], "heldout": []},
    "evaluation": "",
}


@pytest.fixture
def make_run(tmp_path):
    """A run of `base` and two trained variants, `seeds` seeds each."""

    def make(seeds: int, samples: bool = False) -> RunFolder:
        run = RunFolder(tmp_path / f"run-{seeds}")
        run.path.mkdir()
        trials = [
            {"sweep": "many", "trial": f"{v}-s{s}-x", "method": v, "variant": v, "seed": s, "identity": "x"}
            for s in range(seeds)
            for v in ("base", "zebra", "ant")
        ]
        (run.path / "plan.json").write_text(json.dumps({**ABOUT, "trials": trials}))
        for row in trials:
            _write(run.trial(row["trial"]), row, samples)
        return run

    return make


def _write(folder, row, samples):
    rng = np.random.default_rng([row["seed"], len(row["variant"])])
    for point in range(1 if row["variant"] == "base" else 3):
        value = float(rng.normal()) + point
        kept = [("train", m, p, i) for m in ("reward", "gold") for p in ("a cat", "a dog") for i in (0, 1)]
        frame = pd.DataFrame(kept, columns=["split", "metric", "prompt", "sample"])
        folder.write_evaluation(frame.assign(value=value + rng.normal(0, 0.1, len(kept)), point=point))
        axes = {"steps": point, "reward_queries": 32 * point, "flops": 10**19 * point, "train_seconds": 0.5 * point}
        folder.append_point(point, axes, {"train": {"reward": value, "gold": value / 2}})
        if samples:
            for prompt in ("a cat", "a dog"):
                folder.save_picture(point, "train", prompt, np.full((8, 8, 3), 40 * point, np.uint8))
    folder.write_status("done", provenance={"versions": {"torch": "2.13.0"}}, spec={"large": "x" * 1000})


@pytest.fixture
def reads(monkeypatch):
    """File names that were read, in order."""
    found = []
    for name in ("read_lines", "read_record"):
        real = getattr(bench.store.trial_folder, name)
        monkeypatch.setattr(
            bench.store.trial_folder,
            name,
            lambda path, real=real: (found.append(path.relative_to(path.parents[1])), real(path))[1],
        )
    return found


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_report_reads_every_file_once(make_run, reads, seeds):
    run = make_run(seeds)
    reads.clear()
    report(run)
    assert len(reads) == len(set(reads)) == 2 * 3 * seeds


def test_the_frame_is_that_of_a_row_at_a_time(make_run):
    run = make_run(2)
    wanted = []
    for planned in run.planned():
        for point in run.trial(planned.trial).read_curve():
            axes = {axis: point.axes.get(axis, math.nan) for axis in CURVE_AXES}
            for split, metrics in point.values.items():
                for metric, value in metrics.items():
                    row = {**planned.stored(), "status": "done", "point": point.point, "split": split, "metric": metric}
                    wanted.append({**row, "value": value, **axes})
    frame = pd.DataFrame(wanted, columns=[*RESULT_COLUMNS, *CURVE_AXES])
    frame = frame.astype({"value": "float64", "flops": "float64", "flops_recompute": "float64"})
    pd.testing.assert_frame_equal(run.results(), frame, check_exact=True)


def test_an_axis_that_was_not_logged_is_not_zero(make_run):
    """As where a run of an older version goes on under a newer one."""
    run = make_run(2)
    older = run.trial("ant-s0-x")
    for trial in (row.trial for row in run.planned()):
        if trial != older.key:
            folder = run.trial(trial)
            written = [{**row.stored(), "axes": {**row.axes, "nfe": row.point * 8}} for row in folder.read_curve()]
            folder.curve_path.write_text("".join(f"{json.dumps(row)}\n" for row in written))
    frame = validate_curves(run.results(), "reward_queries")
    assert frame["decodes"].isna().all()
    assert frame["nfe"].isna().groupby(frame["trial"]).mean().to_dict() == {
        row.trial: float(row.trial == older.key) for row in run.planned()
    }
    assert frame["reward_queries"].notna().all()
    assert report(run).files


def test_evaluations_together_are_those_of_the_trials(make_run):
    run = make_run(2)
    frames = []
    for planned in run.planned():
        known = planned.model_dump(include={"trial", "method", "variant", "seed"})
        frames.append(run.trial(planned.trial).read_evaluation().assign(**known))
    wanted = pd.concat(frames, ignore_index=True)[list(EVALUATION_COLUMNS)]
    found = run.evaluation()
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, check_categorical=False, check_exact=True)
    assert list(found["variant"].cat.categories) == ["ant", "base", "zebra"], "groups come in this order"


def test_a_column_that_only_some_trials_have_is_kept(make_run):
    run = make_run(1)
    folder = run.trial("ant-s0-x")
    folder.write_evaluation(folder.read_evaluation().assign(weight=2.0))
    assert run.evaluation()["weight"].sum() == 2.0 * len(folder.read_evaluation())


def test_only_pictures_that_may_be_shown_are_listed_and_none_is_opened(make_run, monkeypatch):
    run = make_run(3, samples=True)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was opened"))
    found = pictures(run, run.whole_plan(), run.results())
    assert {(p.variant, p.seed) for p in found} == {("zebra", 0), ("ant", 0), *(("base", seed) for seed in range(3))}
    assert len(found) == 2 * (2 * 3 + 3)
    assert found[0].image.is_file()
