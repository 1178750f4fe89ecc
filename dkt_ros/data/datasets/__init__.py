"""One adapter for each public data set."""
