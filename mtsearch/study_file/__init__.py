"""The parts of a study file: its tables, what may stand in them, and how it is read, checked, described and begun."""
