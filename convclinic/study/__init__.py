"""Many runs compared: here, what a choice is worth on the user's own data."""
