"""The tables of what was asked for: every line has its row, and what a row names is there."""

from __future__ import annotations

import re
from functools import cache

from cloud import ROOT

TABLES = [ROOT / "deploy" / name for name in ("README.md", "contract-table.md")]
LINES = {"R0": 11, "R1": 9, "R2": 10, "R3": 6, "R4": 12}
WANTED = [f"{group}.{number}" for group, last in LINES.items() for number in range(1, last + 1)]
WANTED += [f"C{number}" for number in range(1, 21)] + [f"P{number}" for number in range(1, 16)]
# What a row says where nothing is to be tested.
WITHOUT = re.compile(r"not for us|only on real AWS|containers: (roles|C\d|flags)|flags `--|`(node|packages|tests)[ /]")


def rows() -> list[tuple[str, str, str]]:
    """Table, line and what shows it."""
    found = []
    for table in TABLES:
        for row in re.findall(r"^\|(.*)\|$", table.read_text(), re.M):
            first, *_, last = (cell.strip() for cell in row.split("|"))
            if re.fullmatch(r"[RCP]\d+(\.\d+)?", first):
                found.append((table.name, first, last))
    return found


@cache
def functions_of_tests() -> set[str]:
    files = [*ROOT.glob("tests/*/*.py"), *ROOT.glob("packages/python/tests/*.py")]
    return {name for file in files for name in re.findall(r"^def (\w+)\(", file.read_text(), re.M)}


@cache
def titles() -> str:
    files = [*ROOT.glob("tests/containers/*.ts"), *ROOT.glob("packages/*/test/**/*.ts")]
    return "\n".join(file.read_text() for file in files)


def test_every_line_has_its_row():
    assert {line for _, line, _ in rows()} == set(WANTED)


def faults(table: str, line: str, shown: str) -> list[str]:
    """What a row names and nobody has."""
    tests = set(re.findall(r"`(?:[\w/.]+::)?((?:test|check)_\w+)", shown))
    wrong = sorted(tests - functions_of_tests())
    quoted = re.findall(r'"([^"]+)"', shown)
    wrong += [title for title in quoted if title not in titles()]
    paths = re.findall(r"`((?:tests|packages|examples|docs|scripts|deploy)/[\w./-]+)", shown)
    wrong += [path for path in paths if not (ROOT / path).exists()]
    links = re.findall(r"\]\(([^)#]+)", shown)
    wrong += [link for link in links if not (ROOT / "deploy" / link).exists()]
    # "as C1" and "the same" are another row's; what cannot be shown here says so.
    if not (tests or quoted or re.match(r"as [CRP]\d|the same$", shown) or WITHOUT.search(shown)):
        wrong.append("no test, no command, no reason")
    return [f"{table} {line}: {one}" for one in wrong]


def test_what_rows_name_is_there():
    assert not [fault for row in rows() for fault in faults(*row)]
