"""The verbs on runs behind URLs, with a trial body that writes a curve at once."""

import json

import fsspec
import pytest

from bench.commands import status
from bench.store.remote.lease import Lease
from bench.store.remote.place import Place
from bench.store.run_folder import RunFolder
from tests.bench.bodies import fake_points

URL = "shaky://store/run"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Works in a folder of that machine's own."""

    def go(name):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        return tmp_path / name

    return go


@pytest.fixture
def run(cli, sweep_file, body, shaky):
    def call(*options, out=URL):
        return cli("run", sweep_file, "--executor", "inline", "--out", out, *options)

    return call


def test_a_run_is_in_the_store_and_every_verb_reads_it_there(run, cli, sweep_file, machine, tmp_path):
    here = machine("here")
    answer = run()
    assert answer.code == 0, answer.err
    staging = here / "runs" / ".remote" / Place(URL).slug
    assert f"→ shaky:///store/run, through {staging.relative_to(here)}" in answer.err
    assert "uploaded: shaky:///store/run" in answer.out
    listed = Place(URL).listing()
    assert {"plan.json", "sweep.yaml", "results.parquet", "report/report.html", "report/report.md"} <= set(listed)
    assert "no runs in runs/" in cli("status").out, "the folder it was worked on in is none of the runs here"
    machine("elsewhere")
    rows = json.loads(cli("status", URL, "--json").out)
    assert [row["status"] for row in rows] == ["done"] * 6
    plan = json.loads(cli("plan", sweep_file, "--out", URL, "--json").out)
    assert [row["status"] for row in plan] == ["done"] * 6
    answer = cli("report", URL, "--out", tmp_path / "report", "--format", "md")
    assert answer.code == 0, answer.err
    assert (tmp_path / "report" / "report.md").exists()
    answer = cli("report", URL, "--out", "shaky://site/run", "--format", "md", "--json")
    assert json.loads(answer.out)["files"][-1] == "shaky:///site/run/report.md"
    assert Place("shaky://site/run").read("report.md") == (tmp_path / "report" / "report.md").read_bytes()
    answer = cli("report", URL)
    assert answer.out.splitlines()[-1].startswith("runs/.remote/read/")


def test_another_machine_continues_and_a_plan_of_nothing_is_no_error(run, body, cli, sweep_file, machine):
    def stop(trial, folder):
        fake_points(trial, folder, 2)
        raise KeyboardInterrupt

    machine("first")
    assert {row["status"] for row in json.loads(cli("plan", sweep_file, "--out", URL, "--json").out)} == {"planned"}
    body.special = {"alignprop": stop}
    assert run().code == 130
    assert Place(URL).listing(), "what there was is in the store"
    second = machine("second")
    body.special, body.calls[:] = {}, []
    answer = run("--json")
    assert answer.code == 0, answer.err
    assert body.calls == [("alignprop", 0), ("ddpo", 0), ("base", 1), ("alignprop", 1), ("ddpo", 1)]
    assert json.loads(answer.out)["url"] == "shaky:///store/run"
    found = RunFolder(second / "runs" / ".remote" / Place(URL).slug)
    assert all(len(found.trial(row.trial).read_curve()) == 3 for row in found.planned())


def test_an_upload_that_fails_is_told_and_the_same_command_repeats_it_alone(run, body, shaky, machine, cli):
    machine("here")
    shaky.before = staticmethod(lambda operation, path: operation == "put" and "ddpo" in path)
    answer = run("--json")
    assert answer.code == 3
    found = json.loads(answer.out)
    assert {row["status"] for row in found["trials"]} == {"done"}
    assert found["not_uploaded"]
    assert all("ddpo" in name for name in found["not_uploaded"])
    assert "error: shaky:///store/run: " in answer.err
    assert (
        "files not uploaded (ConnectionResetError: the connection was reset (conftest.py:36)); they are kept in runs/"
        in answer.err
    )
    assert "run the same command again to upload them" in answer.err.splitlines()[-1]
    assert answer.err.count("the upload is tried again") == 1
    shaky.before = staticmethod(lambda operation, path: False)
    body.calls.clear()
    assert run().code == 0
    assert body.calls == []
    assert [row["status"] for row in json.loads(cli("status", URL, "--json").out)] == ["done"] * 6


def test_stopped_while_tuning_it_tells_what_was_not_uploaded(run, body, shaky, machine, sweep_file):
    def stop(trial, folder):
        fake_points(trial, folder, 2)
        raise KeyboardInterrupt

    machine("here")
    text = "search: {samples: 2, untuned: [alignprop], space: {ddpo: {clip_range: {uniform: [1e-4, 1e-3]}}}}"
    sweep_file.write_text(f"{sweep_file.read_text()}{text}\n")
    body.special = {"ddpo-t01": stop}
    answer = run()
    assert answer.code == 130, answer.err
    assert "stopped while tuning; run the same command again to continue" in answer.out
    assert "uploaded: shaky:///store/run" in answer.out
    shaky.before = staticmethod(lambda operation, path: operation == "put" and "ddpo" in path)
    answer = run("--json")
    assert answer.code == 130
    assert json.loads(answer.out)["not_uploaded"]
    assert "files not uploaded (ConnectionResetError" in answer.err


def test_runs_behind_urls_are_merged_and_conflicts_named(run, cli, machine, shaky):
    machine("here")
    for name, seed in (("a", 0), ("b", 1)):
        assert run("--set", f"seeds=[{seed}]", out=f"shaky://store/{name}").code == 0
    answer = cli("merge", "shaky://store/a", "shaky://store/b", "--out", "shaky://store/both")
    assert answer.code == 0, answer.err
    assert "6 trials → shaky:///store/both" in answer.out
    assert len(json.loads(cli("status", "shaky://store/both", "--json").out)) == 6
    answer = cli("merge", "shaky://store/a", "shaky://store/b", "--out", "shaky://store/both")
    assert answer.code == 2
    assert "shaky:///store/both: holds a run already" in answer.err
    answer = cli("merge", "shaky://store/a", "shaky://store/b", "--json")
    assert json.loads(answer.out)["run"].endswith("runs/a-merged"), "here, unless it is said"
    place = Place("shaky://store/b")
    for path in [path for path in shaky.store if path.startswith("/store/a/trials/ddpo")]:
        place.write(path.removeprefix("/store/a/"), shaky.store[path].getvalue())
    plan = json.loads(place.read("plan.json"))
    plan["trials"] += json.loads(Place("shaky://store/a").read("plan.json"))["trials"]
    place.write("plan.json", json.dumps(plan).encode())
    curve = next(name for name in place.listing() if "ddpo-s0" in name and name.endswith("curve.jsonl"))
    place.write(curve, place.read(curve).replace(b'"reward": 1.0', b'"reward": 9.0', 1))
    answer = cli("merge", "shaky://store/a", "shaky://store/b", "--out", "conflict")
    assert answer.code == 4
    assert "ended with different curves in shaky:///store/a, shaky:///store/b" in answer.err


def test_a_merged_run_that_cannot_be_uploaded_is_told_in_full(run, cli, machine, shaky):
    here = machine("here")
    for name, seed in (("a", 0), ("b", 1)):
        assert run("--set", f"seeds=[{seed}]", out=f"shaky://store/{name}").code == 0
    shaky.before = staticmethod(lambda operation, path: operation == "put" and "both" in path and "ddpo" in path)
    answer = cli("merge", "shaky://store/a", "shaky://store/b", "--out", "shaky://store/both", "--json")
    assert answer.code == 3
    said = json.loads(answer.out)
    assert (said["run"], said["trials"], said["exit_code"]) == ("shaky:///store/both", 6, 3)
    assert said["not_uploaded"]
    assert all("ddpo" in name for name in said["not_uploaded"])
    assert (
        "files not uploaded (ConnectionResetError: the connection was reset (conftest.py:36)); they are kept in runs/"
        in answer.err
    )
    shaky.before = staticmethod(lambda operation, path: operation == "put" and "third" in path and "ddpo" in path)
    answer = cli("merge", "shaky://store/a", "shaky://store/b", "--out", "shaky://store/third")
    assert answer.code == 3
    whole = here / "runs" / ".remote" / Place("shaky://store/third").slug
    assert f"6 trials → {whole.relative_to(here)}" in answer.out, "where all of it is"
    shaky.before = staticmethod(lambda operation, path: False)
    answer = cli("merge", "shaky://store/a", "shaky://store/b", "--out", "shaky://store/fourth", "--json")
    assert (answer.code, json.loads(answer.out)["not_uploaded"]) == (0, [])


def test_what_is_watched_goes_on_while_somebody_writes(run, cli, machine, monkeypatch):
    """Between two rounds of a tuning no trial is left to run."""
    machine("here")
    assert run().code == 0
    writer, looks = Lease(Place(URL)), []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            writer.release()

    writer.acquire("another folder")
    monkeypatch.setattr(status.time, "sleep", sleep)
    answer = cli("status", URL, "--watch")
    assert answer.code == 0, answer.err
    assert looks == [status.WATCH_SECONDS] * 2


def test_somebody_else_is_named(run, machine):
    machine("here")
    Lease(Place(URL)).acquire("another folder")
    answer = run()
    assert answer.code == 2
    assert "is writing this run; its lease was renewed 0 s ago" in answer.err
    assert len([line for line in answer.err.splitlines() if not line.startswith("warning: ")]) == 2


@pytest.mark.parametrize("verb", ["status", "report"])
def test_what_is_not_there_is_one_sentence(cli, machine, shaky, verb):
    machine("here")
    answer = cli(verb, URL)
    assert answer.code == 2
    assert "shaky:///store/run: no run has written here" in answer.err


def test_a_missing_package_is_named(run, machine):
    machine("here")
    known = {"class": "no_such_package.Store", "err": "Install no_such_package to reach it"}
    fsspec.register_implementation("absent", known["class"], errtxt=known["err"], clobber=True)
    answer = run(out="absent://bucket/run")
    assert answer.code == 2
    assert answer.err.splitlines() == ["error: absent://bucket/run: Install no_such_package to reach it"]
