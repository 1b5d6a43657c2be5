"""The example in docs/gateway.md can be loaded, holds every key, and says the defaults as they are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from enforcement.gateway import settings

PAGE = Path(__file__).resolve().parent.parent.parent.parent / "docs" / "gateway.md"


def example() -> str:
    """The first whole settings file of the page."""
    texts: list[str] = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.S)
    return next(text for text in texts if "[gateway]" in text)


def test_the_example_of_the_page_loads(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(example())
    for name in ("gateway.crt", "gateway.key", "gateway.token", "database-ca.crt", "app.password"):
        (tmp_path / name).touch(mode=0o600)
    loaded = settings.load(path)
    assert (loaded.gateway.name, loaded.database[0].reader.account, loaded.issuer[0].name) == (
        "gw-1",
        "app",
        "corporate",
    )


def test_it_holds_every_key_with_its_default() -> None:
    text, missing = example(), []
    for heading, kind in settings.TABLES.items():
        table = re.split(rf"^\[+{heading}\]+", text, flags=re.M)[1].split("\n\n")[0] if heading else text
        for field in msgspec.structs.fields(kind):
            if field.name in settings.TABLES or f"{heading}.{field.name}" in settings.TABLES:
                continue
            line = re.search(rf"(?:^|or ){field.name} = ([^#\n]*)(#.*)?$", table, re.M)
            if line is None:
                missing.append(f"{heading}.{field.name}")
            elif re.match(r"# default($|;)", line[2] or "") and isinstance(field.default, int | float | str):
                given = tomllib.loads(f"value = {line[1]}")["value"]
                assert given == field.default, f"{field.name}: the page says {given}, the default is {field.default}"
    assert missing == []
