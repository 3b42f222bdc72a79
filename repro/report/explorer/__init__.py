"""The attention explorer: one HTML page, of the report\'s tweets or of one\'s own."""
