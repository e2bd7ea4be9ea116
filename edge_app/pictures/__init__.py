"""Pictures of what was matched: a contact sheet of pairs and a timeline of the cameras, with or without the truth."""
