"""Blobs in a bucket of an S3 service. `store` is the blob store; everything else in here is a part of it.

    store ─┬─ staging (tail, parts, area, strays, rows in stagings) ─┐
           └─ reading ───────────────────────────────────────────────┴─ bucket ─┬─ control: boto3, small and rare
                                                                                └─ bucket_data, bucket_threads: bytes

`keys` has the names of everything in a bucket, `settings` what an operator says, `failures` what an answer means. Only
`control` knows boto3. Nothing in here knows repositories, and rows only through `stagings`.
"""
