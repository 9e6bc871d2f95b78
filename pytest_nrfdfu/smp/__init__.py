"""Simple Management Protocol without I/O: bytes in, events out."""
