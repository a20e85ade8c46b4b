"""Starting from what another net has learned, and keeping of it what is worth keeping."""
