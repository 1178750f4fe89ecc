"""One adapter per public data set."""
