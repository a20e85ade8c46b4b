"""Shapes and types are checked while tests run, in the rooms whose signatures carry them."""

from jaxtyping import install_import_hook

# The string is an expression: beartype.beartype, with an int accepted where a float is asked for, as type
# checkers do. The hook must stand before anything that imports the two rooms.
install_import_hook(
    ["convclinic.models", "convclinic.tricks"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

import torch  # noqa: E402 - see above

torch.set_num_threads(1)  # sums come out the same on every machine
