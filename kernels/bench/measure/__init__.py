"""How a work is measured: on which device, in turns, against which reference, and what made the report."""
