"""Uploads: receive, hold in incoming, publish to active, change, expire."""
