"""Who is calling and with what right: the OAuth server and the callers it admits."""
