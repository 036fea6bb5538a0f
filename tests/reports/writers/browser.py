"""A real headless browser for pages: Chromium by its own driver, with the network off.

`.ci/run` installs both and sets `REQUIRE_BROWSER`; elsewhere tests that need them are skipped, with the reason.
"""

import os
import shutil
from contextlib import contextmanager

import pytest

PROGRAMS = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))


def missing():
    """What is not there, in words; empty where everything is."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    absent = [names[0] for names in PROGRAMS if not any(map(shutil.which, names))]
    return f"{' and '.join(absent)} not found: apt-get install chromium chromium-driver" if absent else ""


def require():
    reason = missing()
    if reason and os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@contextmanager
def opened():
    """A driver that reaches nothing but files."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver = (next(filter(None, map(shutil.which, names))) for names in PROGRAMS)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        chrome.execute_cdp_cmd("Network.enable", {})
        nothing = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        chrome.execute_cdp_cmd("Network.emulateNetworkConditions", nothing)
        yield chrome
    finally:
        chrome.quit()


def show(chrome, page, width=1280, mode="light"):
    """Opens a file in a window of `width` for a reader who prefers `mode`."""
    media = {"features": [{"name": "prefers-color-scheme", "value": mode}]}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chrome.get(page.as_uri())
