"""The service: HTTP, settings, database, workers and the command line; it runs everything below it."""
