"""The perks domain: who offers what to whom, and what was taken."""
