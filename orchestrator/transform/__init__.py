"""Pictures shaped by their URL ("ico"): the parameters in the path say size, crop and quality."""
