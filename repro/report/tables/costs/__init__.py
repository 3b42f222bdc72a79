"""What the systems and their operators cost."""
