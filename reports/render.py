"""HTML to PDF/A-3a: the one WeasyPrint call, in a child process with limits and a closed URL fetcher.

The same HTML, files and epoch give the same bytes on any host: fonts come from `static/fonts` alone, times are given,
and the file identifier is derived from the content. `python -m reports.render SPEC` is the child.
"""

from __future__ import annotations

import datetime as dt
import gc
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
from fontTools.ttLib import TTFont

from lineage import errors

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "static"
FONTS = STATIC / "fonts"
STYLESHEET = STATIC / "pdf.css"
TIME_LIMIT_SECONDS = 180
MEMORY_LIMIT_BYTES = 3 * 1024**3
FONT_FILES = ("IBMPlexSans-Regular.woff2", "IBMPlexMono-Regular.woff2")
KEPT_CONTROLS = frozenset("\n\t")


class Attached(msgspec.Struct, frozen=True):
    """One file to embed. `relationship` is Data, Source or Supplement (ISO 32000-2 section 7.11.3)."""

    path: str
    name: str
    description: str
    media_type: str
    relationship: str


class Spec(msgspec.Struct, frozen=True):
    """What the child renders: HTML file, attachments, output, and the Unix time that stands for now."""

    html: str
    out: str
    epoch: int
    attachments: tuple[Attached, ...] = ()


def pdf(html: str, attachments: Sequence[Attached], issued_at: dt.datetime, out: Path) -> None:
    """Writes the PDF to `out`. Raises ReportFailed when the child stops, runs too long or takes too much memory."""
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        page, spec_file = Path(folder, "report.html"), Path(folder, "spec.json")
        page.write_text(html, encoding="utf-8")
        spec = Spec(str(page), str(out), int(issued_at.timestamp()), tuple(attachments))
        spec_file.write_bytes(msgspec.json.encode(spec))
        _fallback_fonts(Path(folder))
        try:
            child = subprocess.run(
                [sys.executable, "-m", "reports.render", str(spec_file)],
                cwd=ROOT,
                env=_environment(folder, spec.epoch),
                preexec_fn=_limit,
                timeout=TIME_LIMIT_SECONDS,
                capture_output=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise errors.ReportFailed(
                f"Rendering took longer than {TIME_LIMIT_SECONDS} s. Choose a shorter period."
            ) from error
        if child.returncode != 0:
            # The child's last line names the exception's type only: its text could hold values.
            kind = child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["killed"]
            raise errors.ReportFailed(f"Rendering stopped ({kind[0].split(':')[0][:80]}). Choose a shorter period.")


def _fallback_fonts(folder: Path) -> None:
    """A font configuration that knows one vendored file only, so that no font of the host can come in."""
    font = TTFont(FONTS / FONT_FILES[0], recalcTimestamp=False)
    font.flavor = None
    (folder / "fonts").mkdir()
    font.save(folder / "fonts" / "fallback.ttf")
    (folder / "fonts.conf").write_text(
        f"<fontconfig><dir>{folder}/fonts</dir><cachedir>{folder}</cachedir></fontconfig>", encoding="utf-8"
    )


def _environment(folder: str, epoch: int) -> dict[str, str]:
    return {
        # Without programs: WeasyPrint would look for each of its libraries with a compiler and a linker.
        "PATH": "/nonexistent",
        "HOME": folder,
        "FONTCONFIG_FILE": f"{folder}/fonts.conf",
        "SOURCE_DATE_EPOCH": str(epoch),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
    }


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (TIME_LIMIT_SECONDS, TIME_LIMIT_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def covered_characters() -> frozenset[int]:
    """Code points that both vendored families can draw."""
    tables = [set(TTFont(FONTS / name).getBestCmap()) for name in FONT_FILES]
    return frozenset(tables[0] & tables[1])


_covered: frozenset[int] = frozenset()


def printable(text: str) -> str:
    """`text` with every character that no vendored font draws, or that hides or reorders others, written as [U+202E]."""
    global _covered
    _covered = _covered or covered_characters()
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in KEPT_CONTROLS or (ord(c) in _covered and c.isprintable()) else _named(c) for c in text)


def _named(char: str) -> str:
    return " " if char == "\u00a0" else f"[U+{ord(char):04X}]"


def _render(spec: Spec) -> None:
    import weasyprint  # noqa: TID251 - the one place
    from weasyprint.text.fonts import FontConfiguration  # noqa: TID251
    from weasyprint.urls import FatalURLFetchingError, URLFetcher  # noqa: TID251

    class Closed(URLFetcher):  # type: ignore[misc]
        """Serves data: URLs and files below `static/`; anything else stops the rendering."""

        def fetch(self, url: str, headers: dict[str, str] | None = None) -> object:
            parts = urlsplit(url)
            inside = parts.scheme == "file" and Path(unquote(parts.path)).resolve().is_relative_to(STATIC)
            if parts.scheme != "data" and not inside:
                raise FatalURLFetchingError(f"refused {parts.scheme}")
            return super().fetch(url, headers)

    # What was imported stays; of what pages are laid out with little is garbage, and looking for it is a tenth of the work.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    at = dt.datetime.fromtimestamp(spec.epoch, dt.UTC).replace(tzinfo=None)
    fetcher = Closed(allowed_protocols=["data", "file"], allow_redirects=False, fail_on_errors=True)
    attachments = [
        weasyprint.Attachment(
            string=Path(a.path).read_bytes(),
            name=a.name, description=a.description, created=at, modified=at, relationship=a.relationship,
        )
        for a in spec.attachments
    ]  # fmt: skip
    fonts = FontConfiguration()
    draft = Path(spec.out).with_suffix(".draft")
    weasyprint.HTML(filename=spec.html, url_fetcher=fetcher).write_pdf(
        draft,
        stylesheets=[weasyprint.CSS(filename=str(STYLESHEET), url_fetcher=fetcher, font_config=fonts)],
        font_config=fonts,
        attachments=attachments,
        pdf_variant="pdf/a-3a",
        pdf_tags=True,
        custom_metadata=False,
        presentational_hints=False,
    )
    _mend(draft, Path(spec.out), spec.attachments)
    draft.unlink()


def _mend(draft: Path, out: Path, attachments: Sequence[Attached]) -> None:
    """Lists each attachment once, names its media type, and derives the file identifier from the content."""
    import pikepdf  # In the child alone, as WeasyPrint: every process of the program knows this module, and few make a PDF.

    types = {a.name: a.media_type for a in attachments}
    with pikepdf.open(draft) as document:
        if "/AF" in document.Root:
            once = {item.objgen: item for item in document.Root.AF}
            document.Root.AF = pikepdf.Array(once.values())
            for item in once.values():
                media_type = types.get(str(item.UF))
                if media_type:
                    item.EF.F.Subtype = pikepdf.Name("/" + media_type)
        document.save(out, deterministic_id=True, linearize=False)


if __name__ == "__main__":
    _render(msgspec.convert(json.loads(Path(sys.argv[1]).read_bytes()), Spec))
