"""Jobs: handing work to a queue, and the workers that do it."""
