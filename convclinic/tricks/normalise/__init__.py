"""What stands between each convolution and its activation."""
