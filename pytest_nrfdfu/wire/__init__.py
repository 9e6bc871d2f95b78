"""Packets for people: capture, decode, compare and explain what passed on a UART between an SMP host and a board."""
