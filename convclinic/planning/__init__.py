"""From data profile, budget and hardware to a recipe, each choice with its reason."""
