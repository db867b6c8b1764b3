"""The leaderboard as a static site: a folder that opens from disk and from any static host."""
