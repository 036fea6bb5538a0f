"""`bench report`: formats, a named baseline, and several runs in one report."""

import json
import math
import shutil

import pytest

from bench.results.joint_report import grouped_parts
from bench.results.report import part_of
from bench.store.run_folder import RunFolder

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def undrawn():
    """Here reports have their figures."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return {"folder": tmp_path_factory.mktemp("runs")}


@pytest.fixture
def run(cli, sweep_file, kept, tmp_path):
    """A copy of one run that all tests share."""
    if "run" not in kept:
        answer = cli("run", sweep_file, "--executor", "inline", "--out", kept["folder"] / "first", "--set", "seeds=[0]")
        assert answer.code == 0, answer.err
        kept["run"] = kept["folder"] / "first"
    shutil.copytree(kept["run"], tmp_path / "first")
    return tmp_path / "first"


def changed(run, folder, **about):
    """A copy of the run whose plan says something else."""
    other = run.with_name(folder)
    shutil.copytree(run, other)
    path = other / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **about}))
    return other


def test_tables_and_figures_are_written_as_asked(cli, run, tmp_path):
    out = tmp_path / "out"
    answer = cli("report", run, "--out", out, "--format", "csv", "--format", "svg", "--json")
    assert answer.code == 0, answer.err
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"tables/ranking.csv", "tables/trials.csv", "figures/curves-reward-queries.svg"} <= files
    assert not {"report.html", "report.md"} & files
    assert len(json.loads(answer.out)["files"]) == len(files)
    assert "to run it again" in (out / "tables/trials.csv").read_text()


def test_a_run_whose_plan_lacks_the_methods_is_drawn_alike(cli, run):
    assert cli("report", run).code == 0
    before = (run / "report/report.html").read_bytes()
    plan = json.loads((run / "plan.json").read_text())
    assert plan.pop("methods")["base"]["family"] == "untrained"
    (run / "plan.json").write_text(json.dumps(plan))
    assert cli("report", run).code == 0
    assert (run / "report/report.html").read_bytes() == before


def test_the_variant_that_ratios_refer_to_is_named_or_refused(cli, run):
    assert cli("report", run, "--ratios-to", "alignprop").code == 0
    said = (run / "report/report.html").read_text()
    assert "No method clearly beat the base model" in said
    assert "than alignprop" not in said, "two updates teach it nothing, so there is no ratio to it"
    answer = cli("report", run, "--ratios-to", "alignprob")
    assert answer.code == 2
    assert "no variant that has finished training is called alignprob" in answer.err
    assert "alignprop" in answer.err
    assert cli("report", run, "--ratios-to", "base").code == 2, "ratios to what trains nothing mean nothing"
    old = cli("report", run, "--baseline", "alignprop")
    assert old.code == 2
    assert "--baseline: is the old name of --ratios-to" in old.err
    assert "--ratios-to alignprop" in old.err


def test_runs_of_one_comparison_share_their_trials(cli, run):
    answer = cli("report", run, changed(run, "second", name="second"), "--format", "md", "--json")
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert [row["method"] for row in said["ranking"]].count("alignprop") == 1
    text = (run.parent / "first-and-second-report" / "report.md").read_text()
    assert "in several runs, and shown once" in text
    assert "from run to run" not in text
    assert text.count("## Ranking") == 1


@pytest.mark.parametrize(
    ("here", "there", "told"),
    [(None, 0.1, True), (None, 1e-7, False), (None, math.nan, True), (math.nan, math.nan, False)],
)
def test_a_trial_that_went_otherwise_in_another_run_is_told(cli, run, here, there, told):
    other = changed(run, "second", name="second")
    trial = next(path.name for path in (other / "trials").iterdir() if path.name.startswith("alignprop"))
    for folder, more in ((run, here), (other, there)):
        path = folder / "trials" / trial / "curve.jsonl"
        points = [json.loads(line) for line in path.read_text().splitlines()]
        points[-1]["values"]["train"]["reward"] += more or 0.0
        path.write_text("".join(f"{json.dumps(point)}\n" for point in points))
    answer = cli("report", run, other, "--format", "csv", "--json")
    assert answer.code == 0, answer.err
    warnings = [text for text in json.loads(answer.out)["warnings"] if "from run to run" in text]
    assert bool(warnings) == told
    assert not told or warnings[0].startswith(f"1 of them differs from run to run ({trial})")


def test_runs_with_other_evaluations_stand_apart(cli, run, tmp_path):
    other = changed(run, "second", name="second", evaluation="9 images a prompt.")
    assert cli("report", run, other, "--format", "md", "--out", tmp_path / "out").code == 0
    text = (tmp_path / "out/report.md").read_text()
    assert text.startswith("> **These runs cannot be compared with each other: they differ in evaluation (")
    assert text.count("## Ranking") == 2
    said = json.loads(cli("report", run, other, "--format", "csv", "--out", tmp_path / "csv", "--json").out)
    assert [part["name"] for part in said["parts"]] == ["tiny", "second"]
    assert said["warnings"][0].startswith("These runs cannot be compared")
    assert cli("report", run, run).code == 2


def test_where_nothing_can_be_written_is_one_sentence(cli, run, tmp_path):
    (tmp_path / "file").write_text("")
    answer = cli("report", run, "--out", tmp_path / "file", "--format", "md")
    assert answer.code == 2
    assert "cannot be written" in answer.err


def test_other_settings_of_a_third_run_split_no_method(cli, run):
    """The same settings in two runs are one method, whatever a third one calls by its name."""
    same, other = changed(run, "second", name="second"), changed(run, "third", name="third")
    for folder in (same, other):
        plan = json.loads((folder / "plan.json").read_text())
        for row in plan["trials"]:
            if row["variant"] == "ddpo":
                new = row["trial"].replace("-s0-", "-s1-") if folder == same else row["trial"] + "x"
                RunFolder(folder).trial(row["trial"]).path.rename(RunFolder(folder).trial(new).path)
                row |= {"trial": new, "seed": 1} if folder == same else {"trial": new, "identity": "0" * 64}
        (folder / "plan.json").write_text(json.dumps(plan))
    parts, _ = grouped_parts([(RunFolder(path), part_of(RunFolder(path))) for path in (run, same, other)])
    ddpo = parts[0].trials[parts[0].trials["method"] == "ddpo"]
    assert ddpo.groupby("variant").size().to_dict() == {"ddpo (tiny)": 2, "ddpo (third)": 1}


def with_plan(run, folder, **changes):
    """A copy whose plan's protocol or measures say something else."""
    plan = json.loads((run / "plan.json").read_text())
    return changed(run, folder, name=folder, **{key: {**plan[key], **value} for key, value in changes.items()})


def test_another_model_or_gold_stands_apart_and_one_more_measure_does_not(cli, run, tmp_path):
    for folder, change, named in (
        ("retrained", {"protocol": {"model": "0" * 16}}, "model ("),
        ("regolded", {"measures": {"diversity": "another"}}, "diversity ("),
    ):
        other = with_plan(run, folder, **change)
        assert cli("report", run, other, "--format", "md", "--out", tmp_path / folder).code == 0
        text = (tmp_path / folder / "report.md").read_text()
        assert f"cannot be compared with each other: they differ in {named}" in text
        assert text.count("## Ranking") == 2
    more = with_plan(run, "more", measures={"reward/x": "new"})
    assert cli("report", run, more, "--format", "md", "--out", tmp_path / "more-out").code == 0
    assert (tmp_path / "more-out/report.md").read_text().count("## Ranking") == 1


def test_the_same_name_for_other_settings_is_told_apart(cli, run, tmp_path):
    other = changed(run, "second", name="second")
    plan = json.loads((other / "plan.json").read_text())
    for row in plan["trials"]:
        if row["variant"] == "ddpo":
            new = row["trial"].replace(row["identity"][:8], "00000000")
            RunFolder(other).trial(row["trial"]).path.rename(RunFolder(other).trial(new).path)
            row |= {"trial": new, "identity": "0" * 64}
    (other / "plan.json").write_text(json.dumps(plan))
    answer = cli("report", run, other, "--format", "csv", "--out", tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    methods = {row["method"] for row in json.loads(answer.out)["ranking"]}
    assert {"ddpo (second)", "alignprop"} <= methods
    assert "ddpo" not in methods
    assert (tmp_path / "out/tables/ablation-of-ddpo.csv").exists()
