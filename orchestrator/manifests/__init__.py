"""Documents of the IIIF Presentation API about assets: manifests of one image, manifests and
collections of named queries, of customers and of spaces.
"""
