"""``python -m service.cli``: the command line where the package is not installed."""

from service.cli import main

main()
