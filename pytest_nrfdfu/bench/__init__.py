"""Many units."""
