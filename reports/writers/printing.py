"""The page as a PDF, printed by a browser, so that paper and page look the same."""

import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
LIMIT_SECONDS = 180


class NoBrowserError(RuntimeError):
    """There is no browser on the path, or it did not print the page."""


def browser() -> str | None:
    """The first known browser on the path."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def to_pdf(page: str) -> bytes:
    """The page as a PDF, in the paper size of the page's style.

    Raises:
        NoBrowserError: there is no browser, or it did not print.
    """
    program = browser()
    if program is None:
        raise NoBrowserError(
            "report.pdf needs a browser to print the page, and there is no Chromium, Chrome or Edge here"
        )
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        source, target = Path(folder) / "report.html", Path(folder) / "report.pdf"
        source.write_text(page, encoding="utf-8")
        command = [
            program, "--headless", "--disable-gpu", "--no-sandbox", "--disable-dev-shm-usage", "--disable-extensions",
            f"--user-data-dir={folder}/profile", "--no-pdf-header-footer", f"--print-to-pdf={target}", source.as_uri(),
        ]  # fmt: skip
        try:
            subprocess.run(command, capture_output=True, timeout=LIMIT_SECONDS, check=True)
            return target.read_bytes()
        except (OSError, subprocess.SubprocessError) as error:
            raise NoBrowserError(f"{Path(program).name} did not print the page ({type(error).__name__})") from error
