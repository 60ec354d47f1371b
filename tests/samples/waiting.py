"""How long tests wait for a program."""

LONGEST = 1800.0
"""Seconds after which it is taken to hang, however slow and busy the machine."""
