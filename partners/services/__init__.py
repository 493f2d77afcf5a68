"""Bespoke requests of SERVICE perks: who may take which step (steps), and what each does."""
