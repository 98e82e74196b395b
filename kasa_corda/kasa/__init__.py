"""KaSA: truncation of the base, the layers, storage. Import from its modules; this file stays free of torch."""
