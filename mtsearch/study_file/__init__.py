"""The study file: its tables and values, and how it is read and checked; and the file of an exported configuration."""
