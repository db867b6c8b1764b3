"""Result files: their schema, written whole, read within limits."""
