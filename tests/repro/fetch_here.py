"""`fetch` from a host on this machine, of a made-up data set: python fetch_here.py ADDRESS SUMS ARGUMENTS...

SUMS is the sha256 of every annotation and proxy file, as JSON; the arguments are those of `python -m repro fetch`.
"""

from __future__ import annotations

import json
import sys

from repro.__main__ import main
from repro.fetch import addresses, data_set
from repro.fetch.addresses import Places
from repro.fetch.download import Rules


def fetch_from(address: str, sums: dict[str, str], arguments: list[str]) -> int:
    """The command's exit code; its patience is a test's."""
    for name, digest in sums.items():
        known = addresses.PROXY_SHA256 if name in addresses.PROXY_SHA256 else addresses.ANNOTATION_SHA256
        known[name] = digest
    mirrors = dict.fromkeys(addresses.DATASETS, f"{address}/images/{{image_id}}")
    real_run, places = (
        data_set.run,
        Places(f"{address}/{{dataset}}/{{split}}.json", mirrors, f"{address}/said/{{path}}"),
    )
    rules = Rules(tries=2, first_pause=0.01, longest_pause=1.0, timeout=0.7, loopback=True)
    data_set.run = lambda *args, **options: real_run(*args, **options, places=places, rules=rules)
    try:
        return main(["fetch", *arguments])
    finally:
        data_set.run = real_run


if __name__ == "__main__":
    sys.exit(fetch_from(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]))
