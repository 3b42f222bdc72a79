"""What runs, evaluations and measurements leave on disk: typed, with a schema, and defined only here."""
