"""Files to checked samples, split, cached and batched. Nothing here imports torch."""
