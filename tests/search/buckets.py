"""A stand-in for S3 on this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Serve S3 with an empty bucket ``bucket``; yield the environment variables by which clients find it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        variables = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            here = {"endpoint_override": f"{host}:{port}", "scheme": "http"}
            fs.S3FileSystem(**here, allow_bucket_creation=True).create_dir("bucket")
        yield variables
    finally:
        server.stop()
