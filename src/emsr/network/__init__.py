"""What learns: networks, losses, and the one loop that trains them."""
