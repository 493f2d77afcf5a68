"""The GraphQL API: types, fields and permissions; no rules and no SQL."""
