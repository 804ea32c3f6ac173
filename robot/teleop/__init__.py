"""Moving a robot by hand, from a keyboard or a gamepad, and recording what it does as demonstrations."""
