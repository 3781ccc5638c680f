"""Reading the customers' bytes where they first live: origin strategies, their credentials, and one
reader for each kind of origin.
"""
