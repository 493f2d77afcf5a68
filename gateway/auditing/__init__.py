"""The auditor's tool: works on exported files alone, with no database, no secret and none of the gateway's servers."""
