"""What the processes that work for one site tell each other, on the site's store."""
