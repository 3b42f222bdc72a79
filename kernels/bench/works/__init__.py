"""What is timed and checked, a work a file, and what it is timed against."""
