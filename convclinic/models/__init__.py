"""Nets as plain modules, one file each."""
