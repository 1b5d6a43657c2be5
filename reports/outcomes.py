"""Runs the tests of a kind over frozen evidence and says what came out, in counts and in fixed words.

The answers are files, because a test can find half a million items; what is counted of them is asked with SQL.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lineage import engine, errors
from reports import controls, hearing, markers, parts, sampling
from reports.controls import Attribute, Breakdown, Table, Test
from reports.evidence import Evidence, Request, accesses, write_batches
from reports.hearing import ALL_HEARD, Limits
from reports.items import Item, Items
from reports.markers import Marker
from reports.sampling import Plan, Sample

OPERATED = "operated without deviation"
DEVIATED = "deviations noted"
NOT_OCCURRED = "did not occur"
NOT_TESTED = "could not be tested"
POPULATION = """select count(*) as population, count(*) filter (kind = 'query') as statements,
    count(*) filter (kind = 'change') as row_changes from population"""
WORST = (NOT_TESTED, DEVIATED, OPERATED, NOT_OCCURRED)


@dataclasses.dataclass(frozen=True)
class Tested:
    """The count line of one attribute."""

    letter: str
    title: str
    tested: int
    deviations: int
    conclusion: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one test found. `items` were found, `tested` of them apply, `deviating` of those deviate."""

    test: Test
    answer: Items
    items: int
    tested: int
    deviating: int
    deviations: int
    actors: int
    attributes: list[Tested]
    conclusion: str
    sample: Sample
    markers: list[Marker]
    limits: Limits = ALL_HEARD

    @property
    def excluded(self) -> int:
        return self.items - self.tested

    def counts(self) -> dict[str, int]:
        return {
            "items": self.items,
            "tested": self.tested,
            "excluded": self.excluded,
            "deviating": self.deviating,
            "deviations": self.deviations,
            "actors": self.actors,
        }


@dataclasses.dataclass(frozen=True)
class Result:
    """What the tests of a report found together, and how large the population was that they ran over."""

    outcomes: list[Outcome]
    derived: dict[str, Path]
    population: dict[str, int]
    conclusion: str

    @property
    def counts(self) -> dict[str, int]:
        """The population, all accesses of the period, and the sums over all tests."""
        sums = {name: sum(outcome.counts()[name] for outcome in self.outcomes) for name in self.outcomes[0].counts()}
        return self.population | sums | {"actors": max(outcome.actors for outcome in self.outcomes)}


def evaluate(evidence: Evidence) -> Result:
    """Runs each test of the kind over the frozen tables, exactly as a reader can run it over the attached files."""
    tests = evidence.request.tests
    derived = {one.id: evidence.folder / f"{one.id}.parquet" for one in controls.tables_of(tests)}
    answers = {test.id: evidence.folder / f"{test.stem}.items.parquet" for test in tests}
    _ask(evidence, derived, answers)
    asked = evidence.request
    outcomes = [_outcome(test, answers[test.id], hearing.limits(test.needs, evidence), asked) for test in tests]
    (population,) = engine.over(evidence.tables, POPULATION).to_pylist()
    population |= {"accesses": sum(each["n"] for each in accesses(evidence))}
    worst = min((outcome.conclusion for outcome in outcomes), key=WORST.index)
    return Result(outcomes, derived, population, worst)


def _ask(evidence: Evidence, derived: Mapping[str, Path], answers: Mapping[str, Path]) -> None:
    """Writes the derived tables and the tests' answers to these paths by id; of many records in parts, as far as that can be."""
    tests, tables = evidence.request.tests, controls.tables_of(evidence.request.tests)
    for table in tables:
        if parts.wanted(table, evidence.tables):
            tests, by_act = (
                [one for one in tests if one.id not in parts.BY_ACT],
                [one for one in tests if one.id in parts.BY_ACT],
            )
            paths = {table.id: derived[table.id], **{one.id: answers[one.id] for one in by_act}}
            parts.write(evidence.tables, table, by_act, paths)
        else:
            _write(table, evidence.tables, derived[table.id])
    for test in tests:
        _write(test, {**evidence.tables, **derived}, answers[test.id])


def _write(file: Table | Test, tables: Mapping[str, Path], path: Path) -> None:
    """What its SQL answers over the tables that it reads: it can be as long as the population."""
    write_batches(engine.batches_over({name: tables[name] for name in file.tables}, file.sql), path)


def _outcome(test: Test, path: Path, limits: Limits, asked: Request) -> Outcome:
    answer = Items(path)
    _expect_words(test, answer)
    counted = _counted(test, answer)
    return Outcome(
        test,
        answer,
        counted["items"],
        counted["tested"],
        counted["deviating"],
        counted["deviations"],
        counted["actors"],
        [_tested(attribute, counted, limits) for attribute in test.attributes],
        conclude(counted["tested"], counted["deviating"], limits),
        sampling.drawn(test.id, path, Plan(asked.engagement, asked.nonce, asked.sample)),
        markers.found(answer.parts(*markers.COLUMNS), asked.since, asked.until),
        limits,
    )


def _expect_words(test: Test, answer: Items) -> None:
    """Raises ReportFailed for an answer that the test's head does not tell of: it would stand in no count."""
    for one in test.attributes:
        said = {word for part in answer.parts(one.letter) for word in pc.unique(part[one.letter]).to_pylist()}
        strange = said - {None, "pass", *one.deviations}
        if strange:
            words = ", ".join(sorted(strange))[:200]
            raise errors.ReportFailed(
                f"Test {test.id} answered in {one.letter} what its head does not tell of: {words}."
            )


def _counted(test: Test, answer: Items) -> dict[str, int]:
    letters = "".join(
        f", count({one.letter}) as {one.letter}, count(*) filter ({one.letter} <> 'pass') as {one.letter}_failed"
        for one in test.attributes
    )
    actors = "count(distinct coalesce(who_id, db_user, 'unknown'))" if "who_id" in answer.schema.names else "0"
    sql = (
        "select count(*) as items, count(*) filter (tested) as tested, count(*) filter (len(deviations) > 0) as deviating, "  # noqa: S608 - letters of ours
        f"{actors} as actors, "
        f"coalesce(sum(len(deviations)), 0)::bigint as deviations{letters} from items"
    )
    row: dict[str, int] = engine.over({"items": answer.path}, sql).to_pylist()[0]
    return row


def _tested(attribute: Attribute, counted: dict[str, int], limits: Limits) -> Tested:
    tested, failed = counted[attribute.letter], counted[f"{attribute.letter}_failed"]
    return Tested(attribute.letter.upper(), attribute.title, tested, failed, conclude(tested, failed, limits))


def conclude(tested: int, deviations: int, limits: Limits) -> str:
    """One of the four phrases. Nothing found is no result where what items are made of was not heard all the time."""
    if not tested and (limits.in_first or limits.first in limits.never):
        return NOT_TESTED
    if not tested:
        return NOT_OCCURRED
    if limits.nothing:
        return NOT_TESTED
    return DEVIATED if deviations else OPERATED


def broken_down(outcome: Outcome, breakdown: Breakdown) -> list[tuple[str, int]]:
    """(words, items) for each value of a column, most first; an item counts once for each value of a list."""
    is_list = pa.types.is_list(outcome.answer.schema.field(breakdown.column).type)
    value = f"unnest({breakdown.column})" if is_list else breakdown.column
    sql = f"select value, count(*) as n from (select {value} as value from items) group by value order by n desc, value"  # noqa: S608
    rows = engine.over({"items": outcome.answer.path}, sql).to_pylist()
    return [(breakdown.words.get(row["value"], str(row["value"])), row["n"]) for row in rows]


def by_actor(outcome: Outcome, most: int) -> list[Item]:
    """One line a person (or login, where no person is known), busiest first; `outcome.actors` says how many there are."""
    sql = f"""select coalesce(who_id, db_user, 'unknown') as id, arg_min(who_name, first_index) as name,
        arg_min(who_type, first_index) as type, list_sort(list_distinct(list(on_behalf_of))) as behalf,
        list_sort(list_distinct(list(db_user))) as logins, list_sort(list_distinct(list(attribution))) as attribution,
        count(*) as items, count(*) filter (len(deviations) > 0) as deviating
        from items group by 1 order by items desc, id limit {most}"""  # noqa: S608 - a number
    return list(engine.over({"items": outcome.answer.path}, sql).to_pylist())
