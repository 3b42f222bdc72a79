"""`python -m repro` with another training function: python drive.py MODULE:FUNCTION run|status|report ..."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # the processes of runs import this file too, and need none of it
    import repro.plan.chosen
    import repro.report.write
    import repro.run.estimate
    from repro.__main__ import main

    repro.plan.chosen.FILE = Path("chosen.json")  # the checkout's is not a test's to read or write
    repro.report.write.FIGURES = ()  # drawing takes a second, and no test that comes here looks
    repro.run.estimate.lines = lambda *_: iter(())  # torch is imported for it, which takes longer than these runs
    sys.exit(main(sys.argv[2:], train=sys.argv[1]))
