"""The commands of `python -m repro`, one file each."""
