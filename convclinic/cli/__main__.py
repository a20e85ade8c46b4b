"""`python -m convclinic.cli`."""

from convclinic.cli import main

main()
