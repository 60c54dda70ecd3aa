"""A simple model of a jobboard and its ledger, and a world of clients on a real one that is held against it."""
