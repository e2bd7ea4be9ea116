"""Public Re-ID sets, plain folders and tables of crops → records."""
