"""What every room stands on: errors, records, files, names, schemas. No torch."""
