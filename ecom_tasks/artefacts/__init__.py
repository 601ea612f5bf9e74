"""Immutable, versioned, verifiable data sets and models in an object store or a folder."""
