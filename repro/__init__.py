"""The experiments: from a table of runs to finished records, and from records to tables and figures."""
