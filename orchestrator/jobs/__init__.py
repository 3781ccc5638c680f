"""Jobs: submitting them, running them in workers, and their periodic maintenance. The queue is the
jobs table (docs/adr/0011-jobs.md).
"""
