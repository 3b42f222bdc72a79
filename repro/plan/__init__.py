"""Which runs there are: systems, profiles and data sets, and the config of each run."""
