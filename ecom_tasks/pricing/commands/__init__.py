"""What a person types: arguments in, tables and lines out. Heavy imports wait for the run."""
