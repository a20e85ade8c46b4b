"""What to do when some classes have few images."""
