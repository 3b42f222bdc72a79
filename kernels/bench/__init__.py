"""The report on the kernels: are they right, how fast are they, and against what. `python -m kernels.bench --help`.

A report is a list of rows. A timing has `work`, `variant`, `launch` and `ms`; a check has `check` and `right`; what
could not be done has `error`. `targets` turns rows into verdicts, and nothing else interprets them.
"""
