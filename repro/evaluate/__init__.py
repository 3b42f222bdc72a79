"""What is measured of a trained system beside its scores: other conditions, other rules, its inner workings."""
