"""What the systems cost at the paper's size: `measure` makes the figures, `report` and `figures` show them."""
