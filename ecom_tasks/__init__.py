"""Machine learning for shops: validated data in, trustworthy versioned artefacts out."""

__version__ = "0.1.0"
