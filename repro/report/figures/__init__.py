"""The figures: a file each, listed in contents.py."""
