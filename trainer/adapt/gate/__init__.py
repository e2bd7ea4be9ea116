"""Is a new model better than the one in force, without labels? Pure; `gate.py` says by what it is judged."""
