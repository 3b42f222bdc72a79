"""What happens inside the systems, and whether it is what the paper says."""
