"""The fault bench of the clinic: planted faults and healthy runs, in plain PyTorch loops."""
