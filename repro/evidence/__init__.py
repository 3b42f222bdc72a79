"""What the records show: grouped into cells, compared, tested, and marked where they are of other sources."""
