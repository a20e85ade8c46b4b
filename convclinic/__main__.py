"""`python -m convclinic` is the same as `convclinic`."""

from convclinic.cli import main

main()
