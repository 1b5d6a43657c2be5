"""Values of Debezium's JSON as text, by the schema that stands beside them (Debezium documentation, data type mappings).

Without a schema a value stays as it is written, and has no type: a decimal or a date cannot be told from text or number.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import json
from collections.abc import Callable, Mapping
from typing import Any

from lineage.sources.images import Column, Marker

PLACEHOLDER = "__debezium_unavailable_value"
UNCHANGED = Marker("unchanged")
DIGITS_LIMIT = 2000
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Number(str):
    """A JSON number as it was written: no digit is lost."""

    __slots__ = ()


def decoded(raw: bytes | str) -> Any:
    """JSON that is known to be valid, with numbers as `Number`."""
    return json.loads(raw, parse_float=Number, parse_int=Number)


class Types:
    """The columns of one table as a schema tells them; empty where there is none."""

    def __init__(self, schema: Any, placeholder: str = PLACEHOLDER) -> None:
        self.fields: dict[str, Mapping[str, Any]] = {}
        self.placeholder = placeholder
        self.encoded = base64.b64encode(placeholder.encode()).decode()
        fields = schema.get("fields") if isinstance(schema, dict) else None
        for one in fields if isinstance(fields, list) else ():
            if isinstance(one, dict) and isinstance(one.get("field"), str):
                self.fields[one["field"]] = one

    def column(self, name: str) -> Column:
        field = self.fields.get(name, {})
        kind = field.get("name") or field.get("type")
        return Column(name, kind if isinstance(kind, str) else None)

    def value(self, name: str, value: Any) -> str | Marker | None:
        """The value as text; `unchanged` where Debezium says that the database did not send it."""
        if value is None:
            return None
        field = self.fields.get(name, {})
        if self._unavailable(value, field):
            return UNCHANGED
        return _text(value, field)

    def _unavailable(self, value: Any, field: Mapping[str, Any]) -> bool:
        """The placeholder, in the form that the column's type gives it. As text in a number's column it is no placeholder."""
        if isinstance(value, Number):
            return False
        if isinstance(value, str):
            kind = field.get("type", "string")
            return (kind == "string" and value == self.placeholder) or (
                kind in ("bytes", "string") and value == self.encoded
            )
        if isinstance(value, list):
            return len(value) == 1 and value[0] in (self.placeholder, self.encoded) and not isinstance(value[0], Number)
        return isinstance(value, dict) and list(value.items()) == [(self.placeholder, self.placeholder)]


def _text(value: Any, field: Mapping[str, Any]) -> str:
    name, kind = field.get("name"), field.get("type")
    if isinstance(value, Number):
        render = TIMES.get(name) if isinstance(name, str) else None
        return _rendered(render, value) if render else str(value)
    if isinstance(value, str):
        if name in DECIMALS:
            parameters = field.get("parameters")
            return _decimal(value, parameters.get("scale") if isinstance(parameters, dict) else None) or value
        return _hex(value) if kind == "bytes" else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict) and name == "io.debezium.data.VariableScaleDecimal":
        inner = value.get("value")
        return (_decimal(inner, value.get("scale")) if isinstance(inner, str) else None) or written(value)
    return written(value)


def written(value: Any) -> str:
    """A list or an object as compact JSON, its numbers as they came."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


DECIMALS = frozenset({"org.apache.kafka.connect.data.Decimal"})


def _decimal(encoded: str, scale: Any) -> str | None:
    """Base64 of a big-endian two's complement number and its scale; None where it is something else."""
    try:
        raw = base64.b64decode(encoded, validate=True)
        places = int(scale)
    except (binascii.Error, ValueError, TypeError):
        return None
    if not raw or len(raw) > DIGITS_LIMIT // 3 or not -DIGITS_LIMIT < places < DIGITS_LIMIT:
        return None
    digits = decimal.Decimal(int.from_bytes(raw, "big", signed=True))
    with decimal.localcontext(prec=2 * DIGITS_LIMIT):
        return format(digits.scaleb(-places), "f")


def _hex(encoded: str) -> str:
    try:
        return "\\x" + base64.b64decode(encoded, validate=True).hex()
    except (binascii.Error, ValueError):
        return encoded


def _rendered(render: Callable[[int], str], number: Number) -> str:
    """The time that a number stands for; the number where it is none, or outside the calendar."""
    try:
        return render(int(number)) if len(number) <= 20 else str(number)
    except (ValueError, OverflowError):
        return str(number)


def _date(days: int) -> str:
    return (EPOCH + dt.timedelta(days=days)).date().isoformat()


def _moment(per_second: int) -> Callable[[int], str]:
    digits = len(str(per_second)) - 1

    def render(number: int) -> str:
        seconds, rest = divmod(number, per_second)
        return f"{EPOCH + dt.timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}.{rest:0{digits}d}"

    return render


def _clock(per_second: int) -> Callable[[int], str]:
    digits = len(str(per_second)) - 1

    def render(number: int) -> str:
        seconds, rest = divmod(number, per_second)
        if not 0 <= seconds <= 86_400:
            raise ValueError(number)
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:0{digits}d}"

    return render


TIMES: dict[str, Callable[[int], str]] = {
    "io.debezium.time.Date": _date, "org.apache.kafka.connect.data.Date": _date,
    "io.debezium.time.Timestamp": _moment(10**3), "org.apache.kafka.connect.data.Timestamp": _moment(10**3),
    "io.debezium.time.MicroTimestamp": _moment(10**6), "io.debezium.time.NanoTimestamp": _moment(10**9),
    "io.debezium.time.Time": _clock(10**3), "org.apache.kafka.connect.data.Time": _clock(10**3),
    "io.debezium.time.MicroTime": _clock(10**6), "io.debezium.time.NanoTime": _clock(10**9),
}  # fmt: skip
