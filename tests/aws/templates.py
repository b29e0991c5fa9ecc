"""The templates as data: cfn-lint's reader, so that short tags are read as CloudFormation reads them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from cfnlint.decode import decode

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "cloudformation"
NAMES = ["fargate-private", "workshop", "ec2-efs"]


@cache
def load(name: str) -> dict[str, Any]:
    template, problems = decode(str(FOLDER / f"{name}.yaml"))
    assert not problems, problems
    # Plain dictionaries: cfn-lint's remember their lines.
    return json.loads(json.dumps(template, default=str))


def resources(name: str, kind: str) -> dict[str, dict[str, Any]]:
    found = load(name)["Resources"].items()
    return {logical: one["Properties"] for logical, one in found if one["Type"] == kind}


def texts(value: Any) -> list[str]:
    """All texts inside, however deep."""
    if isinstance(value, dict):
        return [text for one in value.items() for text in texts(list(one))]
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []
