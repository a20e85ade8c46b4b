"""Training images and labels blended with those of other images."""
