"""The command line: one file per command, a skin on `mtsearch.api`."""
