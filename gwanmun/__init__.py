"""The command line `gwanmun`. It imports every other package lazily and is imported by none."""
