"""What truncation and calibration do to the layers of a model: spectra, alignments, and what a cut costs."""
