"""What a run has learned, for people: sheets of crops, charts, and a page that shows them all."""
