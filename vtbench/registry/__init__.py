"""YAML files to validated entries."""
