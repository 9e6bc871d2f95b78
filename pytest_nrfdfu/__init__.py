"""pytest-nrfdfu: hardware-in-the-loop firmware update tests for boards with a Nordic nRF5340."""
