"""The pages in docs/ and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import get_commands
from django.urls import get_resolver

import manage
from lineage import errors, events, search, sources

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def words_in_first_column(page: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)`", (DOCS / page).read_text(), re.M))


def test_every_field_of_an_event_has_exactly_one_place_and_the_page_agrees() -> None:
    page = (DOCS / "life-of-an-event.md").read_text()
    leaf = re.search(r"^Leaf: `([^`]+)`", page, re.M)
    assert leaf is not None
    assert tuple(leaf[1].split()) == events.LEAF_FIELDS
    for group, fields in events.GROUP_FIELDS.items():
        row = re.search(rf"^\| {group} \| (.+) \|$", page, re.M)
        assert row is not None
        assert tuple(re.findall(r"`(\w+)`", row[1])) == fields
    placed = [*events.LEAF_FIELDS, *(f for fields in events.GROUP_FIELDS.values() for f in fields)]
    assert len(placed) == len(set(placed))
    wire = {"class" if f == "class_" else f for f in events.Event.__struct_fields__} - {"error"} | {
        "error_code",
        "error_message",
    }
    assert set(placed) == wire


def test_every_error_code_is_on_the_api_page_with_its_status() -> None:
    page = (DOCS / "api.md").read_text()
    for error in errors.TouchstoneError.__subclasses__():
        assert f"| `{error.code}` | {error.status} |" in page


def test_every_setting_that_the_code_reads_is_on_the_settings_page() -> None:
    read = set()
    for path in [*ROOT.glob("config/*.py"), *ROOT.glob("lineage/**/*.py"), *ROOT.glob("reports/**/*.py")]:
        read |= set(re.findall(r"[\"'](TOUCHSTONE_[A-Z_]+)[\"']", path.read_text()))
    assert read <= words_in_first_column("settings.md")


def test_every_endpoint_of_the_api_is_on_its_page() -> None:
    page = (DOCS / "api.md").read_text()
    for pattern in get_resolver("lineage.api_urls").url_patterns:
        first = str(pattern.pattern).split("/")[0]
        assert first in page


@pytest.mark.parametrize("name", sorted(n for n, app in get_commands().items() if app in ("lineage", "reports")))
def test_every_command_says_in_its_help_what_it_does(name: str) -> None:
    from django.core.management import load_command_class

    assert len(load_command_class(get_commands()[name], name).help) > 10


def test_every_command_that_signs_runs_with_the_rights_to_sign() -> None:
    commands = {path.stem: path.read_text() for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    signs = {name for name, text in commands.items() if "keeper.once()" in text}
    assert "proof" in signs
    assert {name: manage.ROLES.get(name) for name in signs} == dict.fromkeys(signs, "store")
    assert set(manage.ROLES) <= set(get_commands())


def test_every_command_that_a_page_names_is_there() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        named = set(re.findall(r"bin/manage\s+([a-z]+)", page.read_text()))
        assert named <= set(get_commands()) | {"witness"}, page.name


def test_every_search_field_is_on_its_page() -> None:
    page = (DOCS / "search.md").read_text()
    for name, *_ in (f if isinstance(f, tuple) else (getattr(f, "name", f),) for f in search.fields()):
        assert str(name).split("COLUMN")[0] in page


def test_the_readme_lists_only_formats_that_are_built() -> None:
    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r"`((?:postgres|pg)[a-z-]+|events)`", readme)) <= set(sources.FORMATS) | {"pgaudit", "psql"}


def test_the_readme_leads_to_every_page_and_its_links_lead_somewhere() -> None:
    links = set(re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()))
    assert [link for link in links if not (ROOT / link).exists()] == []
    pages = {f"docs/{page.name}" for page in DOCS.glob("*.md")}
    # For whoever works on the code; the page on where a change goes stands in the README.
    assert pages - links == {"docs/glossary.md", "docs/queries.md", "docs/statements.md"}


def test_every_file_that_a_page_names_is_there() -> None:
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for named in re.findall(
            r"`((?:lineage|enforcement|reports|config|demo|tests|static|templates|benchmarks)/[\w./-]+)`",
            page.read_text(),
        ):
            assert (ROOT / named).exists() or named == "reports/NUMBER/", f"{page.name}: {named}"


@pytest.mark.parametrize("page", sorted(p.name for p in DOCS.glob("*.md")))
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", (DOCS / page).read_text()):
        assert (DOCS / link).exists(), link
    for named in re.findall(r"docs/([a-z-]+(?:/[\w-]+)?\.md)", (DOCS / page).read_text()):
        assert (DOCS / named).exists(), named
