"""What the process that runs are forked from does once, before the first of them; it imports this and no more."""

import torch  # noqa: F401  (what takes longest)

from repro.run.local_engine import EVALUATE, TRAIN
from repro.run.source_hash import source_hash

for _function in (TRAIN, EVALUATE):
    source_hash(_function.partition(":")[0])  # which modules, and what they hold: every run asks again
