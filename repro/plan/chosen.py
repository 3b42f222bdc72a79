"""Which settings dev trials chose for each system: a file that `tune` writes and main runs read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from clamp.config import ConfigError
from clamp.system.files import written
from repro.plan.grid import system_of, tried_on

FILE = Path(__file__).with_name("chosen.json")


@dataclass(frozen=True)
class Choice:
    """What one system's trials chose. `dataset` is the one whose dev split decided."""

    profile: str
    dataset: str
    variant: str
    changes: dict[str, Any]  # dotted config field -> value, in place of the profile's
    dev_f1: float  # in 0..1, the mean over the seeds of the point that was taken
    trials: int  # of this system
    seeds: int  # of each of its points


Choices = Mapping[tuple[str, str, str], Choice]  # by profile, deciding data set and system


def read_choices() -> Choices:
    """What has been chosen so far. ConfigError names a file that does not hold that."""
    if not FILE.exists():
        return {}
    try:
        choices = TypeAdapter(list[Choice]).validate_json(FILE.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {FILE}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"{FILE}: not a list of choices: {where}: {first['msg']}") from None
    return {(one.profile, one.dataset, one.variant): one for one in choices}


def write_choices(choices: Iterable[Choice]) -> None:
    """Put these in place of earlier ones of the same systems; the others stay. Written in one step, sorted."""
    new = {(one.profile, one.dataset, one.variant): one for one in choices}
    merged = {**read_choices(), **new}
    lines = [json.dumps(dataclasses.asdict(merged[place]), sort_keys=True) for place in sorted(merged)]
    with written(FILE) as stream:
        stream.write(("[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n").encode())


def choice_for(choices: Choices, profile: str, dataset: str, variant: str) -> Choice | None:
    """What a main run of this variant takes; None where there were no trials that say."""
    return choices.get((profile, tried_on(profile, dataset), system_of(variant)))


def changes_for(choices: Choices, profile: str, dataset: str, variant: str) -> dict[str, Any]:
    """The same as config fields; none where nothing was chosen."""
    choice = choice_for(choices, profile, dataset, variant)
    return choice.changes if choice else {}
