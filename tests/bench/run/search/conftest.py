"""The tiny sweep with a search in it."""

import pytest

SEARCH = """
search:
  samples: 3
  seeds: [100]
  space:
    alignprop: {learning_rate: {loguniform: [1e-4, 1e-2]}}
    ddpo: {learning_rate: [1e-4, 1e-3, 1e-2, 3e-2], clip_range: {uniform: [1e-4, 1e-3]}}
"""


@pytest.fixture
def searched_file(sweep_file):
    sweep_file.write_text(sweep_file.read_text() + SEARCH)
    return sweep_file


@pytest.fixture
def run_inline(cli, tmp_path):
    """Runs a sweep file in this process with `--set` of each override, by default in the folder `run`."""

    def call(file, *overrides, out=None):
        chosen = [word for text in overrides for word in ("--set", text)]
        return cli("run", file, "--executor", "inline", "--out", out or tmp_path / "run", *chosen)

    return call
