"""One file a verb of the command line: its options, and its work."""
