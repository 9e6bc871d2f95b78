"""A simulated nRF5340 DK: its own process, real endpoints."""
