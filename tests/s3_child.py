"""Backs a store up to S3 and is killed before its n-th writing request: s3_child.py STORE URL N."""

import os
import signal
import sys

import s3fs

import vectorstore as vs
from vectorstore.backups import heads

if __name__ == "__main__":
    path, url, step = sys.argv[1:]
    heads.LEASE = 1.0
    real, left = s3fs.S3FileSystem._call_s3, [int(step)]

    async def counted(self: object, method: str, *args: object, **more: object) -> object:
        if method in ("put_object", "delete_object", "delete_objects", "create_multipart_upload", "upload_part"):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return await real(self, method, *args, **more)

    s3fs.S3FileSystem._call_s3 = counted
    with vs.open(path, embedder="hash:32") as store:
        store.backup(url)
