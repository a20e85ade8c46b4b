"""One file per cause: a pure rule from signals to a finding, found by looking in this folder."""
