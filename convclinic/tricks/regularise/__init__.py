"""What keeps a net from fitting its training set too closely."""
