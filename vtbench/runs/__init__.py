"""From a request to rows: the pass, its meter, its record."""
