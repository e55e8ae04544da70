"""Start the command line for `python -m mtsearch`."""

from mtsearch.cli import main

main()
