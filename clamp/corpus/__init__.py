"""A file of tweets, predicted: read row by row, in windows whose results lie on disk until all of them are there."""
