"""What a user sees: bars, tables, and how a tool ends."""
