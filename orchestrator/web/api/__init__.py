"""The management API of the private port: one table of operations, thin handlers, one module a
resource.
"""
