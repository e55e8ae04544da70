"""Fixtures of the retraining tests."""

from tests.helpers.device import device, device_first  # noqa: F401 # fixtures of these tests
