"""Pretrained models: where they come from, the shape of their layers, how they are loaded."""
