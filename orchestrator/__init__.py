"""An asyncio image-serving platform for libraries, museums, archives and newsrooms."""
