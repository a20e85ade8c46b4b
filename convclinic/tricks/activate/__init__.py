"""The non-linearities a net can be built with."""
