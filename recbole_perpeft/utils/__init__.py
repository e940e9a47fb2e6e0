"""What all rooms use: errors, repairs of libraries, the machine."""
