"""The object store (a folder, or a bucket of any S3-compatible service), the buckets of customers,
and SQS. The only package that imports aiobotocore.
"""
