"""Preprocessing: fitted on the training split alone, applied to everything after it."""
