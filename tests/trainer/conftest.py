"""Here, so that the tests in every folder below find what they share in this one: small crops, networks and runs."""
