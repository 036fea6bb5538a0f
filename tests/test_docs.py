"""Links of the README, CONTRIBUTING and the pages in docs/ lead somewhere, and every page says first what it is for."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FRONT = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES = sorted(DOCS.glob("*.md"))
REPORTS = sorted(DOCS.glob("results/*/*.md"))


def prose(page: Path) -> str:
    """The page's text without code, in which brackets and # mean something else."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def links(page: Path) -> list[str]:
    """The targets of links and pictures that are not on the web."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not re.match(r"https?:|mailto:", target)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*FRONT, *PAGES, *REPORTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.exists(), f"there is no {link}"
        assert not anchor or anchor in anchors(target), f"{target.name} has no heading for #{anchor}"


def test_links_and_anchors_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A b, c-d\n[x](y.md#z) `[no](code)` ![p](q.png) [w](https://host/)\n```\n# not [a](b)\n```\n")
    assert links(page) == ["y.md#z", "q.png"]
    assert anchors(page) == {"a-b-c-d"}


def test_the_index_names_every_page():
    indexed = {Path(link) for link in links(DOCS / "README.md")}
    assert {Path(page.name) for page in PAGES} - {Path("README.md")} <= indexed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_a_title_and_says_what_it_is_for(page):
    title, empty, first = page.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith("# ")
    assert not empty
    assert re.match(r"[A-Z]", first), "the first line is a sentence, not a table, a list or code"


def test_the_page_of_settings_is_what_the_settings_say():
    page = runpy.run_path(str(DOCS / "settings.py"))["page"]()
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == page, "make settings-page"
