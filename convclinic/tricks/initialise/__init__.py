"""How a fresh net's weights are set."""
