"""What happens inside a trained system: what is measured with its checkpoint, and how that is shown."""
