"""The page in a real browser with the network off: no error, switches that work, figures with pixels."""

import base64
import dataclasses

import pytest

from reports.build import ReportPart, build_report, build_together, write_document
from reports.frame import finished, select
from reports.statistics.curve import band
from tests.reports.conftest import META, make_pictures, make_run
from tests.reports.writers import browser

pytestmark = pytest.mark.integration

PIXELS = """
const drawn = (canvas) => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 200) seen.add((data[i] >> 4) * 256 + (data[i + 1] >> 4) * 16 + (data[i + 2] >> 4));
  }
  return seen.size;
};
return [...document.querySelectorAll("canvas")].map(drawn);
"""


@pytest.fixture(scope="module")
def chrome():
    browser.require()
    with browser.opened() as chrome:
        yield chrome


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return write_document(build_report(*make_run(), META, make_pictures()), out, formats=("html",))[0]


def click(chrome, selector, index=0):
    chrome.execute_script("document.querySelectorAll(arguments[0])[arguments[1]].click()", selector, index)


def test_the_page_opens_offline_without_a_word_in_the_console(chrome, page):
    for width, mode in ((1280, "light"), (390, "dark")):
        browser.show(chrome, page, width, mode)
        for index in range(chrome.execute_script("return document.querySelectorAll('details').length")):
            chrome.execute_script("document.querySelectorAll('details')[arguments[0]].open = true", index)
        assert chrome.get_log("browser") == []
        assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
        assert (
            chrome.execute_script(
                "return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length"
            )
            == 0
        )


def test_every_figure_has_pixels(chrome, page):
    browser.show(chrome, page)
    chrome.execute_script("document.querySelector('.curves .interactive details').open = true")
    chrome.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    colours = chrome.execute_script(PIXELS)
    assert len(colours) == 7
    assert min(colours) > 5, colours
    sizes = chrome.execute_script(
        "return [...document.querySelectorAll('.goodhart svg, td img')].map(e => e.getBoundingClientRect().width)"
    )
    assert len(sizes) > 30
    assert sorted(sizes)[0] == 0, "of the stages of training one is shown"
    assert sum(size > 40 for size in sizes) == 3 + 4 * 8
    loaded = chrome.execute_script(
        "return [...document.querySelectorAll('td img')].every(i => i.complete && i.naturalWidth > 0)"
    )
    assert loaded


def test_switching_the_axis_redraws_against_it(chrome, page):
    browser.show(chrome, page)
    canvas = "return document.querySelector('[data-panel=\"0\"] canvas').toDataURL()"
    words = "return document.querySelector('[data-panel=\"0\"] .readout').textContent"
    before = chrome.execute_script(canvas)
    click(chrome, "[data-axis]", 2)
    pressed = chrome.execute_script("return document.querySelector('[data-axis][aria-pressed=true]').textContent")
    assert pressed == "denoiser evaluations"
    nfe = chrome.execute_script(canvas)
    assert nfe != before
    click(chrome, "[data-log]")
    assert chrome.execute_script(canvas) != nfe
    assert "alignprop" in chrome.execute_script(words)
    click(chrome, "[data-variant]")  # the first of the ranking
    assert "alignprop" not in chrome.execute_script(words)
    assert chrome.get_log("browser") == []


def test_the_page_takes_medians_as_the_tables_do(chrome, page):
    browser.show(chrome, page)
    rows = select(finished(make_run()[0]), "reward", "train")
    rows = rows[rows["variant"] == "ddpo"]
    curves = [(c["nfe"].to_numpy(float), c["value"].to_numpy(float)) for _, c in rows.groupby("trial")]
    ours = band(curves)
    lines = [{"xs": x.tolist(), "ys": y.tolist(), "trial": {"stopped": False}} for x, y in curves]
    theirs = chrome.execute_script("return Curves.bandOf(arguments[0])", lines)
    for name, values in (("xs", ours.axis), ("ys", ours.median), ("low", ours.low), ("high", ours.high)):
        assert theirs[name] == pytest.approx(values.tolist())


def test_a_picture_opens_large_with_its_way_through_training(chrome, page):
    browser.show(chrome, page)
    click(chrome, "button[data-method=alignprop][data-stage='50 %']")
    shown = chrome.execute_script(
        "const d = document.querySelector('dialog');"
        "return [d.open, d.querySelector('.large').getBoundingClientRect().width,"
        " d.querySelectorAll('.row button').length,"
        " d.querySelector('figcaption').textContent]"
    )
    assert shown[0]
    assert shown[1] > 300
    assert shown[2] == 4
    assert shown[3] == "alignprop, “a cat”, 50 % of the budget"


def test_parts_that_cannot_be_compared_each_have_curves(chrome, tmp_path):
    run = make_run(seeds=(0,))
    parts = [
        ReportPart(*run, dataclasses.replace(META, name=name, protocol={"evaluation": words}), make_pictures())
        for name, words in (("one", "64 images"), ("two", "32 images"))
    ]
    page = write_document(build_together(parts), tmp_path, formats=("html",))[0]
    browser.show(chrome, page)
    assert chrome.get_log("browser") == []
    assert chrome.execute_script("return document.querySelectorAll('canvas').length") == 6
    assert "differ in evaluation (one: 64 images; two: 32 images)" in chrome.execute_script(
        "return document.body.innerText"
    )


def test_it_prints(chrome, page):
    browser.show(chrome, page, mode="dark")
    pdf = base64.b64decode(chrome.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert pdf.startswith(b"%PDF")
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    seen = chrome.execute_script(
        "return [...document.querySelectorAll('.static svg')].filter(e => e.getBoundingClientRect().width > 40).length"
    )
    assert seen >= 12
    ground = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert ground == "rgb(255, 255, 255)"
