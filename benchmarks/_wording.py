"""The words of a made history: names, statements of a stated length, row images. Pure."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence

NOUNS = (
    "customers orders payments invoices accounts sessions contracts claims patients visits tickets shipments carts "
    "prices stock suppliers employees salaries devices messages"
).split()
COLUMNS = (
    "name email phone street city postcode country birthday gender status amount currency tax discount created_by "
    "changed_by owner region branch channel category priority score limit_amount balance iban bic note reason language "
    "timezone device browser locale segment tier source_code reference approved_by closed_by"
).split()
WORDS = (
    "account address agreed amount answer approved asked balance before branch called changed checked closed contract "
    "customer delivered discount document each entered first found given invoice later letter limit moved number offer "
    "opened order other paid phone price question received refund rejected returned sent several shipped signed stock "
    "street support ticket total waiting weekly without written"
).split()
STATEMENT_LEAST, STATEMENT_MOST = 80, 4_000
PROSE_WORDS = 200_000
TEXTS = 8
"""How many texts a program has for one table and kind of act."""


@functools.cache
def _prose() -> str:
    return " ".join(random.Random(1).choices(WORDS, k=PROSE_WORDS))


def phrase(drawn: random.Random, letters: int) -> str:
    """Words of about so many letters, from anywhere in a long text."""
    text = _prose()
    place = int(drawn.random() * (len(text) - letters - 20))
    return text[text.index(" ", place) + 1 : text.index(" ", place + max(letters, 12))]


def statement(
    drawn: random.Random,
    op: str,
    table: str,
    columns: Sequence[str],
    key: str | None,
    full: bool,
    bound: bool,
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """(text, bind values, columns that it names). Without `key` a read by another column.

    In full a text has 80 to 4,000 bytes, short ones being frequent. With bind values (`bound`) a program's few texts come
    again and again; without, a person's differ by their literals.
    """
    form = random.Random(f"{table} {op} {key is None} {drawn.randrange(TEXTS)}") if bound else drawn
    chosen = tuple(columns[1 + form.randrange(len(columns) - 1) :][: form.randint(1, 12) if full else 2])
    given: list[str] = []

    def value(text: str) -> str:
        if bound:
            given.append(text)
            return f"${len(given)}"
        return text if text.isdigit() else f"'{text}'"

    wanted = int(STATEMENT_LEAST * (STATEMENT_MOST / STATEMENT_LEAST) ** form.random()) if full else 0
    if op == "insert":
        held = columns[1:] if full else chosen
        values = ", ".join(value(drawn.choice(WORDS)) for _ in held)
        text = f"insert into public.{table} (id, {', '.join(held)}) values ({value(key or '0')}, {values})"
        return _lengthened(form, text, wanted), tuple(given), tuple(held)
    if op == "update":
        text = f"update public.{table} set {', '.join(f'{c} = {value(drawn.choice(WORDS))}' for c in chosen)}"
    elif op == "delete":
        text = f"delete from public.{table}"
    else:
        text = f"select {', '.join(chosen)} from public.{table}"
    met = f"id = {value(key)}" if key is not None else f"{chosen[0]} = {value(drawn.choice(WORDS))}"
    named = chosen if op != "delete" else ()
    return _narrowed(form, f"{text} where {met}", columns, wanted), tuple(given), named


def _narrowed(drawn: random.Random, text: str, columns: Sequence[str], wanted: int) -> str:
    """The text with further conditions until it has the wanted length."""
    parts, length = [text], len(text)
    while length + 60 < wanted:
        more = f" and {drawn.choice(columns[1:])} is distinct from '{phrase(drawn, min(200, wanted - length - 50))}'"
        parts.append(more)
        length += len(more)
    return "".join(parts)


def _lengthened(drawn: random.Random, text: str, wanted: int) -> str:
    """An insert says more in a comment, as what object mappers send does."""
    missing = wanted - len(text)
    return f"/* {phrase(drawn, missing)} */ {text}" if missing > 20 else text


def image(drawn: random.Random, columns: Sequence[str], full: bool) -> dict[str, str]:
    """A value for each column: one word, or in full up to a few."""
    if not full:
        return {column: drawn.choice(WORDS) for column in columns}
    return {column: phrase(drawn, drawn.randint(3, 45)) for column in columns}
