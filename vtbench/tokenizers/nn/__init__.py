"""The few building blocks that the families share: plain torch modules, no entries, no files."""
