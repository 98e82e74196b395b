"""What runs inside the sandbox. Standard library only: it is imported as ``guest``, without the rest of the project."""
