"""Random changes to training images that leave their class as it is."""
