"""The management API of the private port: one table of operations, one module of handlers for each
resource.
"""
