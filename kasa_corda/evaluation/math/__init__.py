"""Answers of mathematics problems: which part of a text is the answer, and when two answers are the same."""
