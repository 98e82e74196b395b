"""Malformed input of every kind, from hand-made lists and by seeded mutation (scripts/fuzz.py, docs/reliability.md)."""
