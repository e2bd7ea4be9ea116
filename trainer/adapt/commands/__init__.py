"""`trainer adapt`, `trainer gate` and `trainer forget`: what is done and said, in which order."""
