"""A trained model put to use: tweets in, aspects out."""
