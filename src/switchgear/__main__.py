"""`python -m switchgear` is the command line."""

from switchgear.cli.main import main

main()
