"""The demo: a club that anybody can look at in two commands, and that walks itself with `perks demo --check`."""
