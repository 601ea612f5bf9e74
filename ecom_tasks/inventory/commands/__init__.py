"""Commands of the inventory domain; light to import."""
