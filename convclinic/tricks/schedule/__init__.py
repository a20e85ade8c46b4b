"""How the learning rate moves over training: pure functions of progress."""
