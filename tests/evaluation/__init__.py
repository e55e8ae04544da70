"""Tests of the honest metrics; a package, so that its modules reach their helpers by relative import."""
