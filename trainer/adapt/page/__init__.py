"""What a round leaves for the owner of the site to read."""
