"""The parts of the chaos run: the site, its faults, and its clients."""
