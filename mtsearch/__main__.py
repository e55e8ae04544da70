"""`python -m mtsearch`."""

from mtsearch.cli.main import main

main()
