"""Where adapters start that don't start at zero: singular components, QR factors, gradients, activations."""
