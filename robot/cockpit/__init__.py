"""What an operator sees of a robot, in a browser."""
