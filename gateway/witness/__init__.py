"""A witness that anybody can run: it watches that logs only grow, and signs what it has seen (C2SP tlog-witness)."""
