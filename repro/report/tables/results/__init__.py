"""How the systems score, and how they compare."""
