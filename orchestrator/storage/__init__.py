"""The object store: tile-ready sources and thumbnails, in a folder or in any S3-compatible
service.
"""
