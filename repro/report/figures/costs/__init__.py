"""What systems and operators cost, from the reports of what was measured."""
