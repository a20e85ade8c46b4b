"""Starting from what another net has learned."""
