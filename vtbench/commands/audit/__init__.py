"""What anybody can tell of results without a model: recomputed, or bounded, a module a subject."""
