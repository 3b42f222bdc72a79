"""Tables of made-up records, written once for all tests that read them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from made_up import suite
from made_up_tables import write_tables


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tables")
    write_tables([*suite(), *suite("offline", "twitter2015", top=0.58)], out)
    return out


@pytest.fixture(scope="session")
def frame_of(made: Path) -> dict[str, pd.DataFrame]:
    return {path.stem: pd.read_csv(path, dtype=str, keep_default_na=False) for path in made.glob("*.csv")}
