"""Several fixed views of a test image, and how their predictions are combined."""
