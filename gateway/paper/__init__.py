"""Pages for people to read, print and keep: each is one file that needs nothing else, no script and no network."""
