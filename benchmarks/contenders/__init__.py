"""The contenders, one a file; each is imported in its own environment only."""
