"""A site's crops come in, its embedder is trained on them anew, and judged before it goes out."""
