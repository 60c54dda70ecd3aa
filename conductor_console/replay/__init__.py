"""Looking at a flow again: the tape (what happened) and the player (where on it one stands). No screen code."""
