"""Shared fixtures: one random tiny pipeline a session, and one torch thread a process."""

from pathlib import Path

import pytest
import torch

from models.tiny import write_tiny_pipeline
from tests.tiny import write_tiny_laion

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the files with an integration test to the front.

    They take longest and wait for other processes most of the time, and a core is idle while the other ends the last.
    """
    waiting = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: item.path not in waiting)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Stable Diffusion 1.5's layout with random weights; it predicts ε."""
    return write_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "epsilon", "epsilon")


@pytest.fixture(scope="session")
def tiny_v_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same layout, predicting v."""
    return write_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "v", "v_prediction")


@pytest.fixture(scope="session")
def laion_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `clip/` and `head.pth`, the LAION aesthetic predictor in tiny."""
    return write_tiny_laion(tmp_path_factory.mktemp("laion"))
