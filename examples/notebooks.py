"""The notebooks, from the scripts: one source, so that they cannot differ. `--check` fails where one is not current."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SCRIPTS = ["climate", "machine_learning", "plain_machines", "shared_drive"]
MARK = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)


def cells(script: str) -> list[dict]:
    parts = MARK.split(script)[1:]
    found = []
    for number, (markdown, text) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        body = text.strip("\n")
        if not body:
            continue
        if markdown:
            body = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.split("\n"))
        cell = {"cell_type": "markdown" if markdown else "code", "id": f"cell-{number}", "metadata": {}}
        if not markdown:
            cell |= {"execution_count": None, "outputs": []}
        found.append({**cell, "source": body.splitlines(keepends=True)})
    return found


def notebook(script: str) -> str:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells(script), "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    stale = []
    for name in SCRIPTS:
        wanted = notebook((FOLDER / f"{name}.py").read_text())
        file = FOLDER / f"{name}.ipynb"
        if "--check" not in sys.argv:
            file.write_text(wanted)
        elif not file.exists() or file.read_text() != wanted:
            stale.append(file.name)
    if stale:
        print(f"not what examples/notebooks.py writes: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
