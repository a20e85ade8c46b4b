"""The tricks, a folder for each slot of a recipe and a file for each trick."""
