"""How good is an embedding? Pure numpy; only evaluation may know identities."""
