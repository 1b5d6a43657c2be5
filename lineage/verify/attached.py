"""What a PDF report carries, and the ZIP beside it: small files are held, large ones read where they lie."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lineage import archive
from lineage.archive import Stored
from lineage.errors import PackInvalid, PackUnreadable
from lineage.verify import pdf, reruns
from lineage.verify.evidence import Evidence
from lineage.verify.reruns import Table

MANIFEST = "manifest.json"
NAMES_AT = 26
"""Where the head of a file in a ZIP says how long its name and what follows that are, in two bytes each."""


@dataclass(frozen=True)
class Report:
    """What is judged: what the PDF carries, and the pack inside where it could be read."""

    carried: pdf.Carried
    pack: Evidence | None
    beside: Mapping[str, Stored] = field(default_factory=dict)

    def file(self, name: str) -> bytes:
        """An attachment; PackInvalid: it is not there, or damaged."""
        found = self.carried.files.get(name)
        if found is None:
            raise PackInvalid(f"The attachment {name} is lacking or cannot be read.")
        return archive.held(found)

    def text(self, name: str) -> str:
        try:
            return self.file(name).decode()
        except UnicodeDecodeError as error:
            raise PackInvalid(f"The attachment {name} is no text.") from error

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The list of attachments and counts; PackInvalid: it does not follow its form."""
        try:
            told = json.loads(self.text(MANIFEST))
            listed = {str(line["name"]): line for line in told["files"]}
            tests = [(str(one["id"]), str(one["conclusion"]), dict(one["counts"])) for one in told["tests"]]
            whole = isinstance(told["counts"], dict) and len(listed) == len(told["files"]) and bool(tests)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PackInvalid(f"{MANIFEST} does not follow its form.") from error
        if not whole:
            raise PackInvalid(f"{MANIFEST} does not follow its form.")
        found: dict[str, Any] = told
        return found

    @cached_property
    def tables(self) -> dict[str, Table]:
        """The attached tables by name, tests' answers (`NAME.items`) among them."""
        names = [name for name, data in self.carried.files.items() if name.endswith(".parquet") and data is not None]
        return {name.removesuffix(".parquet"): reruns.read(name, self.file(name)) for name in names}

    def answer(self, name: str, what: str) -> Iterator[Any]:
        """What the attached SQL file answers over the tables that it says it reads, in parts."""
        sql = self.text(name)
        is_a, read = reruns.head(name, sql)
        absent = [each for each in read if each not in self.tables]
        if is_a != what or absent:
            raise PackInvalid(f"{name} is no {what}, or reads what is not attached: {', '.join(absent) or is_a}.")
        return reruns.answer(name, sql, {each: self.tables[each] for each in read})


def beside(zipped: Stored | None) -> dict[str, Stored]:
    """The files of the ZIP that lies beside a large report; PackUnreadable: it is not one of ours."""
    if zipped is None:
        return {}
    try:
        with zipfile.ZipFile(zipped.file) as opened:
            entries = opened.infolist()
            # Stored alone: what it holds is never larger than itself.
            plain = all(
                each.compress_type == zipfile.ZIP_STORED and each.compress_size == each.file_size for each in entries
            )
            if not plain or len({entry.filename for entry in entries}) != len(entries):
                raise PackUnreadable("The ZIP beside the report is not one of ours.")
            return {entry.filename: _entry(opened, entry, zipped) for entry in entries}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
        raise PackUnreadable("The ZIP beside the report cannot be read.") from error


def _entry(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, zipped: Stored) -> Stored:
    """One file of the ZIP where it lies; all of it is read once, which tells damage. Raises as `zipfile`."""
    with opened.open(entry) as file:
        while file.read(archive.PART_BYTES):
            pass
    names = zipped.read(entry.header_offset + NAMES_AT, 4)
    told = sum(int.from_bytes(names[at : at + 2], "little") for at in (0, 2))
    return zipped.part(entry.header_offset + NAMES_AT + 4 + told, entry.file_size)
