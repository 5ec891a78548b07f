"""What taskito costs, always beside the bare store in the same run: absolute numbers move, ratios hold."""
