"""Small pure helpers that every room may use."""
